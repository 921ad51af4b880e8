"""JSON and Parquet deliveries, and values that no column has, as the CSV files that the landing zone holds.

A row keeps the values of our columns as text and everything else of it as one JSON object in the column
`EXTRA_COLUMNS`, which bronze takes as it is. So dividing by day, fingerprints, replacing and reading are those of CSV
(docs/decisions/0019-formats.md).
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse_assets.calendar import at_most
from lakehouse_assets.landing.headers import EXTRA_COLUMNS, UTF8_BOM, header_line, inspect, names_in_header
from lakehouse_assets.landing.row_blocks import LONGEST_KEPT_ROW_BYTES, Lines, row_blocks, rows_over_lines, whole_file
from lakehouse_assets.landing.text_files import BLOCK_BYTES, FileRefused, open_text_bytes

CONSTANT = "="  # before a text that every row has, where a map would name a column
_PARQUET = b"PAR1"
_BATCH_ROWS = 10_000
_WHOLE_FLOATS = 1e15  # below it every whole double is written with all its digits
_SHOWN_NAMES = 12
_MISSING = object()
_BETWEEN_ITEMS = re.compile(r"[ \t\r\n,]*")

Row = Sequence[str | None]


@contextmanager
def as_csv(
    source: Path, columns: Sequence[str], renames: Mapping[str, str], folder: Callable[[], Path]
) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """A delivery as a CSV file, and what its columns are called there: itself, where it is one already.

    Args:
        source: what is delivered.
        columns: our columns.
        renames: our column, or an extra one, -> theirs: a column, a path such as ``properties.page``, or after
            `CONSTANT` a text.
        folder: tells where the CSV file may lie while this lasts.

    Raises:
        FileRefused: it is no file of the kind that its first bytes say, or lacks a column.
    """
    constants = {ours: theirs[1:] for ours, theirs in renames.items() if theirs.startswith(CONSTANT)}
    kind = _kind(source)
    if kind == "csv":
        _refuse_one_for_two(source, columns, renames)
    if kind == "csv" and not constants:
        yield source, renames
        return
    paths = {name: renames.get(name, name) for name in (*columns, *renames) if name not in constants}
    handle, name = tempfile.mkstemp(dir=folder(), prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as sink:
            if kind == "csv":
                _with_constants(source, columns, renames, constants, sink)
            else:
                rows = (
                    _parquet_rows(source, columns, paths)
                    if kind == "parquet"
                    else _json_rows(source, columns, paths, kind)
                )
                _write(rows, columns, constants, sink)
        left = {ours: theirs for ours, theirs in renames.items() if kind == "csv" and ours not in constants}
        yield Path(name), left
    except FileRefused as error:
        raise FileRefused(source, error.reason) from None  # not the name it has here
    finally:
        Path(name).unlink(missing_ok=True)


def _refuse_one_for_two(source: Path, columns: Sequence[str], renames: Mapping[str, str]) -> None:
    read_from: dict[str, str] = {}
    for ours in dict.fromkeys((*columns, *renames)):
        theirs = renames.get(ours, ours)
        if theirs in read_from and not theirs.startswith(CONSTANT):
            raise FileRefused(
                source, f"{read_from[theirs]} and {ours} would both be read from {theirs!r}; map one of them to another"
            )
        read_from[theirs] = ours


def value_at(row: Any, path: str) -> Any:
    """The value at a dotted path of a row, or `_MISSING`.

    A part of the path is a key; in a list a number, or the ``key`` of an object whose ``value`` is meant. A text that
    is JSON is what it says. A value that BigQuery wraps by its type (``{"int_value": 7}``) is that value.
    """
    if "." not in path and not isinstance(value := row.get(path, _MISSING), dict):  # most are
        return value
    value = row
    for part in (path,) if path in row else path.split("."):
        if isinstance(value, str) and value[:1] in ("{", "["):
            value = _loaded(value)
        if isinstance(value, list):
            keyed = {item["key"]: item.get("value") for item in value if isinstance(item, dict) and "key" in item}
            value = value[int(part)] if part.isdigit() and int(part) < len(value) else keyed.get(part, _MISSING)
        else:
            value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
    if isinstance(value, dict) and value and all(key.endswith("_value") for key in value):
        return next((typed for typed in value.values() if typed is not None), None)
    return value


def names_in(source: Path, rows: int = 100) -> list[str]:
    """What a map may call columns by: column names, dotted paths into objects and lists of ``key`` and ``value``."""
    kind = _kind(source)
    if kind == "parquet":
        with _damage_named(source):
            return list(dict.fromkeys(_paths_in_schema(pq.ParquetFile(source).schema_arrow)))
    with open_text_bytes(source) as stream:
        if kind == "csv":
            return names_in_header(stream.read(BLOCK_BYTES))
        found = filter(None, map(_object, itertools.islice(_json_texts(source, stream, kind), rows)))
        return list(dict.fromkeys(name for row in found for name in _paths(row)))


def _paths(value: Any, above: str = "") -> Iterator[str]:
    if isinstance(value, list) and value and all(isinstance(item, dict) and "key" in item for item in value):
        yield from (f"{above}{item['key']}" for item in value)
    elif isinstance(value, dict) and value and not all(key.endswith("_value") for key in value):
        for name, inner in value.items():
            yield from _paths(inner, f"{above}{name}.")
    elif above:
        yield above[:-1]


def _paths_in_schema(fields: Iterable[pa.Field], above: str = "") -> Iterator[str]:
    for field in fields:
        if pa.types.is_struct(field.type):
            yield from _paths_in_schema(field.type.fields, f"{above}{field.name}.")
        else:
            yield above + field.name


def _kind(source: Path) -> str:
    with open_text_bytes(source) as stream:
        head = stream.read(4096)
    if head.startswith(_PARQUET):
        with source.open("rb") as raw:
            if raw.read(len(_PARQUET)) != _PARQUET:
                raise FileRefused(source, "is a Parquet file inside an archive; unpack it")
        return "parquet"
    begin = head.removeprefix(UTF8_BOM).lstrip()[:1]
    return {b"{": "jsonl", b"[": "json array"}.get(begin, "csv")


def _with_constants(
    source: Path, columns: Sequence[str], renames: Mapping[str, str], constants: Mapping[str, str], sink: BinaryIO
) -> None:
    """Write a CSV file with further columns that have one value each, its rows as they are before them."""
    inspection = inspect(source, [renames.get(name, name) for name in columns if name not in constants])
    there = [name for name in constants if name in inspection.header]
    if there:
        raise FileRefused(
            source, f"has a column {there[0]!r}, so the map cannot give it one text; remove it from the map"
        )
    separator, header = inspection.separator, inspection.header
    nameless_end = b"" if header[-1] else separator.encode()  # a separator at the end of lines would be in the middle
    more = _line(["", *constants.values()], separator)
    sink.write(header_line([*(header if header[-1] else header[:-1]), *constants], separator))
    for block in row_blocks(whole_file(inspection, columns), keep_long_rows=True):
        lines = Lines.of(block)
        over_lines, _ = rows_over_lines(lines, len(header), separator)
        at = 0
        while at < len(lines.ends):
            last = over_lines.get(at, at)
            row = lines.text(at, last).removesuffix(b"\n").rstrip(b"\r")
            sink.write((row.removesuffix(nameless_end) + more if row else b"") + b"\n")
            at = last + 1


def _write(rows: Iterable[Row], columns: Sequence[str], constants: Mapping[str, str], sink: BinaryIO) -> None:
    """Write rows of our columns that are no constants, and their JSON; a row of one text is one that can't be read."""
    names = [name for name in columns if name not in constants]
    sink.write(_line([*names, *constants, EXTRA_COLUMNS], ",") + b"\n")
    fixed = [*constants.values()]
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    for count, row in enumerate(rows, 1):
        if len(row) == 1:
            out.write('"' + str(row[0]).replace('"', '""') + '"\n')
        else:
            write([*row[:-1], *fixed, row[-1]])
        if count % _BATCH_ROWS == 0:
            sink.write(out.getvalue().encode())
            out.seek(0)
            out.truncate()
    sink.write(out.getvalue().encode())


def _line(values: Sequence[str], separator: str) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="").writerow(values)
    return out.getvalue().encode()


def _json_rows(source: Path, columns: Sequence[str], paths: Mapping[str, str], kind: str) -> Iterator[Row]:
    """Rows of JSON Lines or of a JSON array; what is no object is a row of its text."""
    ours = {name: path for name, path in paths.items() if name in columns}
    further = {name: path for name, path in paths.items() if name not in columns}
    lacking, known, taken = dict(ours), dict[str, None](), frozenset(paths.values())
    empty = True
    with open_text_bytes(source) as stream:
        for line in _json_texts(source, stream, kind):
            empty = False
            row = _object(line)
            if row is None:
                yield (line.decode("utf-8", "replace"),)
                continue
            values = {name: value_at(row, path) for name, path in paths.items()}
            if lacking:
                lacking = {name: path for name, path in lacking.items() if values[name] is _MISSING}
                known |= dict.fromkeys(_names(row)) if len(known) < _SHOWN_NAMES else {}
            rest = {name: value for name, value in row.items() if name not in taken and value is not None}
            rest |= {name: values[name] for name in further if values[name] not in (_MISSING, None)}
            yield [*(_text(values[name]) for name in ours), _json(rest)]
    if empty:
        raise FileRefused(source, "has no row")
    if not known and lacking:
        raise FileRefused(
            source, "has no JSON object in a line or an array; write one object a line, as `jq -c .` does"
        )
    if lacking:
        _refuse_missing(source, lacking, list(known), "no row has")


def _json_texts(source: Path, stream: BinaryIO, kind: str) -> Iterator[bytes]:
    return _items(source, stream) if kind == "json array" else _lines(source, stream)


def _items(source: Path, stream: BinaryIO) -> Iterator[bytes]:
    """The text of each item of a JSON array, of which a block is held at a time."""
    read = codecs.getreader("utf-8-sig")(stream).read
    decode = json.JSONDecoder().raw_decode
    count = 0
    try:
        text, at = read(BLOCK_BYTES).lstrip(), 1
        while True:
            at = _BETWEEN_ITEMS.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing as well
            try:
                item, end = decode(text, at)
                if end == len(text):  # a number may go on
                    raise ValueError
            except (ValueError, RecursionError):
                if text[at : at + 1] == "]":
                    break
                more = "" if len(text) - at > LONGEST_KEPT_ROW_BYTES else read(BLOCK_BYTES)
                if not more:
                    raise FileRefused(
                        source, f"is a JSON array that is damaged or cut after its item {count:,}; deliver it again"
                    ) from None
                text, at = text[at:] + more, 0
                continue
            yield text[at:end].encode() if isinstance(item, dict) else json.dumps(item).encode()
            count, at = count + 1, end
        rest = text[at + 1 :].strip()
        while not rest and (more := read(BLOCK_BYTES)):
            rest = more.strip()
        if rest:
            raise FileRefused(
                source, f"goes on after its JSON array ends, behind item {count:,}; write all items into one array"
            )
    except UnicodeDecodeError as error:
        byte = f"0x{error.object[error.start]:02x}"
        raise FileRefused(source, f"is not UTF-8 (byte {byte}); convert it to UTF-8") from None


def _lines(source: Path, stream: BinaryIO) -> Iterator[bytes]:
    """Lines that are not blank, without their ends."""
    while line := stream.readline(LONGEST_KEPT_ROW_BYTES + 1):
        if len(line) > LONGEST_KEPT_ROW_BYTES:
            raise FileRefused(source, f"has a line of over {LONGEST_KEPT_ROW_BYTES >> 20} MiB; write one object a line")
        line = line.removeprefix(UTF8_BOM).strip(b"\r\n \t")
        if line:
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = f"0x{line[error.start]:02x}"
                raise FileRefused(source, f"is not UTF-8 (byte {byte}); convert it to UTF-8") from None
            yield line


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        row = _DECODER.decode(line.decode())
        if b"\\u" in line:  # half a character has no UTF-8
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _no_number(text: str) -> None:
    raise ValueError(text)


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def _names(row: Mapping[str, Any]) -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in value)
        else:
            yield name


def _text(value: Any) -> str | None:
    if value is None or value is _MISSING:
        return None
    if isinstance(value, str):
        return value
    return _json(value) if isinstance(value, dict | list | bool) else str(value)


def _json(value: Any) -> str:
    if value == {}:
        return ""
    try:
        return _ENCODER.encode(value)
    except ValueError:  # NaN and infinity, which JSON has not
        return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), default=_plain)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=lambda one: _plain(one), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) else value


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _refuse_missing(source: Path, lacking: Mapping[str, str], known: Sequence[str], why: str) -> None:
    name, path = next(iter(lacking.items()))
    raise FileRefused(
        source,
        f"{why} {path!r}, which {name} is read from (found: {', '.join(at_most(known, _SHOWN_NAMES))}); map it: "
        f"`--map {name}=YOUR_NAME`, a dotted path into objects, or `--map {name}={CONSTANT}TEXT` for one text in "
        "all rows",
    )


def _parquet_rows(source: Path, columns: Sequence[str], paths: Mapping[str, str]) -> Iterator[Row]:
    """Rows of a Parquet file."""
    with _damage_named(source):
        file = pq.ParquetFile(source, coerce_int96_timestamp_unit="us")
        names = file.schema_arrow.names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise FileRefused(source, f"column {twice[0]!r} is there twice; name each column once")
        found = {name: _their_name(path, names) for name, path in paths.items()}
        lacking = {name: paths[name] for name in columns if name in found and not found[name]}
        if lacking:
            _refuse_missing(source, lacking, names, "has no column")
        leaves = [file.schema.column(number) for number in range(len(file.schema.names))]
        in_utc = {leaf.path for leaf in leaves if leaf.physical_type == "INT96"}  # as Spark and Hive write instants
        for batch in file.iter_batches(_BATCH_ROWS):
            texts = {
                name: _parquet_texts(_at_path(batch, path), in_utc=path in in_utc)
                for name, path in found.items()
                if path
            }
            rest = [name for name in names if name not in found.values()]
            columns_left = [_values(batch.column(name)) for name in rest]
            others = [dict(zip(rest, row, strict=True)) for row in zip(*columns_left, strict=True)]
            further = [name for name in texts if name not in columns]
            for number, row in enumerate(zip(*(texts[name] for name in columns if name in texts), strict=True)):
                kept = {name: value for name, value in (others[number] if rest else {}).items() if value is not None}
                kept |= {name: text for name in further if (text := texts[name][number]) is not None}
                yield [*row, _json(kept)]


@contextmanager
def _damage_named(source: Path) -> Iterator[None]:
    """Say of a Parquet file that can't be read that it is damaged."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        said = " ".join(str(error).split())
        raise FileRefused(source, f"damaged or cut Parquet ({said[:200]}); deliver the file again") from None


def _their_name(path: str, names: Sequence[str]) -> str:
    """A path as the file spells its column, in other letters where that is clear; empty if it has none."""
    for name in (path, path.split(".")[0]):
        alike = [name] if name in names else [other for other in names if other.casefold() == name.casefold()]
        if len(alike) == 1:
            return alike[0] + path[len(name) :]
    return ""


def _at_path(batch: pa.RecordBatch, path: str) -> pa.Array:
    """The values at a dotted path: of a column, of structs inside it, or looked up value by value."""
    if path in batch.schema.names:
        return batch.column(path)
    name, *parts = path.split(".")
    array = batch.column(name)
    for number, part in enumerate(parts):
        if not pa.types.is_struct(array.type) or part not in [field.name for field in array.type.fields]:
            values = (value_at({"": value}, ".".join(["", *parts[number:]])) for value in _values(array))
            return pa.array([None if value is _MISSING else _text(value) for value in values], pa.string())
        array = pc.struct_field(array, part)
    return array


def _values(array: pa.Array) -> list[Any]:
    values: list[Any] = _readable(array).to_pylist(maps_as_pydicts="lossy")
    return values


def _readable(array: pa.Array) -> pa.Array:
    """The same values in a type that Python has: no dictionaries, no nanoseconds, ids that are UUIDs as text."""
    if isinstance(array, pa.ExtensionArray):
        if array.type.extension_name == "arrow.uuid":
            return pa.array([value and str(value) for value in array.to_pylist()], pa.string())
        return _readable(array.storage)
    if pa.types.is_dictionary(array.type):
        return _readable(array.dictionary_decode())
    if pa.types.is_timestamp(array.type) and array.type.unit == "ns":
        return array.cast(pa.timestamp("us", array.type.tz), safe=False)
    return array


def _parquet_texts(array: pa.Array, *, in_utc: bool) -> list[str | None]:
    """Values as text: numbers without an exponent, instants with ``Z`` where the file says that they are in UTC, ms."""
    array = _readable(array)
    kind = array.type
    if pa.types.is_timestamp(kind):
        wall = array.cast(pa.timestamp("us", kind.tz), safe=False)
        if kind.tz:
            wall = wall.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).cast(pa.timestamp("us"))
        zone = "Z" if kind.tz or in_utc else ""
        return _strings(pc.binary_join_element_wise(wall.cast(pa.string()), zone, ""))
    if pa.types.is_floating(kind):
        numbers = array.to_pylist()
        whole = array.cast(pa.string()).to_pylist()
        return [
            f"{number:.1f}" if number is not None and abs(number) < _WHOLE_FLOATS and number == int(number) else text
            for number, text in zip(numbers, whole, strict=True)
        ]
    if pa.types.is_duration(kind):
        micros = array.cast(pa.duration("us"), safe=False).cast(pa.int64()).to_pylist()
        return [None if one is None else str(one // 1000 if one % 1000 == 0 else one / 1000) for one in micros]
    if pa.types.is_fixed_size_binary(kind):  # keys and hashes, whose bytes may by chance be text
        return [None if value is None else value.hex() for value in array.to_pylist()]
    if pa.types.is_nested(kind) or _is_bytes(kind):
        return [_text(_plain(value) if isinstance(value, bytes) else value) for value in _values(array)]
    return _strings(array.cast(pa.string()))


def _is_bytes(kind: pa.DataType) -> bool:
    return any(one(kind) for one in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _strings(array: pa.Array) -> list[str | None]:
    texts: list[str | None] = array.to_pylist()
    return texts
