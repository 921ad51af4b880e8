"""Reading delivered CSV files exactly: no row lost, no value changed.

A row that does not fit the header is kept as delivered text, as malformed. Rows without a quote go through Arrow's
parser in blocks; only rows with quotes take the slower path. This module runs on the driver and on Spark's workers,
which load it for their first task: it imports neither Spark, Dagster nor anything else that is slow to load.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from lakehouse_assets.assets.division import PART
from lakehouse_assets.landing.headers import EXTRA_COLUMNS
from lakehouse_assets.landing.row_blocks import (
    CARRIAGE_RETURN,
    LINE_FEED,
    MAX_ROW_BYTES,
    Chunk,
    Lines,
    first_row_line,
    quoted_row,
    row_blocks,
    rows_over_lines,
    without_end,
)
from lakehouse_assets.storage.s3 import name_of

SOURCE_LINE = "source_line"  # the line of the file that a row begins on
# C0 controls but tab, line feed and carriage return, and DEL: no text column holds them on purpose
CONTROL_BYTES = bytes(set(range(32)) - {9, 10, 13} | {127})
_LINE_END = re.compile(rb"\r+\n")
_PASSED_ON_ROWS = 32_768  # as many as Sail's operators take at once
_IS_CONTROL = np.isin(np.arange(256), [*CONTROL_BYTES, CARRIAGE_RETURN])
_QUOTED_VALUE = r'"(?:[^"\x00-\x08\x0a-\x1f\x7f]|"")*"'


_Kept = TypeVar("_Kept")
Numbers = npt.NDArray[Any]  # of lines
Numbered: TypeAlias = tuple[int, _Kept]  # with the number of its line
Chosen = tuple[bytes, npt.NDArray[np.bool_]]  # lines of a block, and which they are


def read_chunk(chunk: Chunk) -> Iterator[pa.RecordBatch]:
    """The rows of a chunk: the expected columns, extra_columns (JSON), malformed_row (text) and `SOURCE_LINE`.

    Raises:
        FileRefused: the file is not the one that was inspected any more.
    """
    parser = BlockParser(chunk.header, chunk.columns, chunk.separator)
    line = first_row_line(chunk)
    for block in row_blocks(chunk):
        yield from parser.parse(block, line)
        line += block.count(b"\n")


def read_tasks(tasks: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What a Spark task does: read the chunks it was dealt (columns `PART`, landing_date, chunk as JSON).

    Returns:
        `PART`, landing_date, the columns of `read_chunk`, source_file.
    """
    held: list[pa.RecordBatch] = []
    held_rows = 0
    for rows in _read(tasks):  # a day's file makes three of a few rows, and passing one on takes two milliseconds
        held.append(rows)
        held_rows += rows.num_rows
        if held_rows >= _PASSED_ON_ROWS:
            yield pa.concat_batches(held)
            held, held_rows = [], 0
    if held:
        yield pa.concat_batches(held)


def _read(tasks: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in tasks:
        for task in batch.to_pylist():
            described = json.loads(task["chunk"])
            chunk = Chunk(**described | {"header": tuple(described["header"]), "columns": tuple(described["columns"])})
            name = name_of(chunk.path)
            for rows in read_chunk(chunk):
                size = rows.num_rows
                yield pa.RecordBatch.from_arrays(
                    [
                        pa.repeat(pa.scalar(task[PART], pa.int32()), size),
                        pa.repeat(pa.scalar(task["landing_date"], pa.date32()), size),
                        *rows.columns,
                        pa.repeat(name, size),
                    ],
                    names=[PART, "landing_date", *rows.schema.names, "source_file"],
                )


def _with_line_feeds(block: bytes) -> bytes:
    """Lines ended by a line feed alone."""
    block = block.replace(b"\r\n", b"\n")
    return _LINE_END.sub(b"\n", block) if b"\r\n" in block else block


class BlockParser:
    """Parses blocks of whole rows into batches with the expected columns."""

    def __init__(self, header: Sequence[str], columns: Sequence[str], separator: str = ",") -> None:
        self.header = list(header)
        self.separator = separator
        self.columns = list(columns)
        self.extra = [name for name in header if name not in columns]
        self.schema = pa.schema([(name, pa.string()) for name in (*columns, EXTRA_COLUMNS, "malformed_row")])
        self.schema = self.schema.append(pa.field(SOURCE_LINE, pa.int64()))

    def parse(self, block: bytes, first_line: int = 1) -> Iterator[pa.RecordBatch]:
        """The rows of one block, in no particular order, with the number of the line that each begins on."""
        malformed: list[Numbered[str]] = []
        rows: list[Numbered[list[str]]] = []
        quoted = b""
        numbers = quoted_numbers = np.arange(first_line, first_line + block.count(b"\n"))
        if _needs_care(block):
            (block, plain), (quoted, sound) = self._set_apart(block, first_line, rows, malformed)
            numbers, quoted_numbers = numbers[plain], numbers[sound]
        else:
            block = _with_line_feeds(block)
        if block:
            yield from self._parse_lines(block, numbers, malformed, quote_char=False)
        if quoted:
            yield from self._parse_lines(quoted, quoted_numbers, malformed, quote_char='"')
        if rows:
            values = list(zip(*(row for _, row in rows), strict=True))
            table = pa.table([pa.array(column, pa.string()) for column in values], names=self.header)
            yield from self._finish(table, np.array([number for number, _ in rows]), malformed)
        if malformed:
            empty = pa.nulls(len(malformed), pa.string())
            lines, texts = zip(*malformed, strict=True)
            columns = [empty] * (len(self.schema) - 2) + [pa.array(texts, pa.string()), pa.array(lines, pa.int64())]
            yield pa.record_batch(columns, schema=self.schema)

    def _set_apart(
        self, block: bytes, first_line: int, rows: list[Numbered[list[str]]], malformed: list[Numbered[str]]
    ) -> tuple[Chosen, Chosen]:
        """Take out of a block what needs a look of its own; return its plain lines and its soundly quoted ones.

        A line that is no row (see `rows_over_lines`) is malformed, and reading goes on with the next one.
        """
        lines = Lines.of(block)
        starts, ends, quotes = lines.starts, lines.ends, lines.quotes
        over_lines, _ = rows_over_lines(lines, len(self.header), self.separator)
        too_long = ends - starts > MAX_ROW_BYTES + 1
        special = (quotes > 0) | too_long
        special[_lines_with_control(lines)] = True
        sound = _soundly_quoted(lines, np.flatnonzero((quotes > 0) & (quotes % 2 == 0) & ~too_long), self.separator)
        taken = np.zeros(len(ends), bool)
        for first in np.flatnonzero(special & ~sound).tolist():
            if taken[first]:
                continue
            last = over_lines.get(first, first)
            text = lines.text(first, last)
            row = quoted_row(text, len(self.header), self.separator) if quotes[first] else None
            if row is None or any(_has_control(value) for value in row):
                kept = without_end(text).decode("utf-8", "replace")
                malformed.append((first_line + first, kept))
            else:
                rows.append((first_line + first, row))
            taken[first : last + 1] = True
        plain, soundly_quoted = ~special & ~taken, sound & ~taken
        return (_joined(lines, plain), plain), (_joined(lines, soundly_quoted), soundly_quoted)

    def _parse_lines(
        self, block: bytes, numbers: Numbers, malformed: list[Numbered[str]], quote_char: str | bool
    ) -> Iterator[pa.RecordBatch]:
        refused: list[str] = []

        def refuse(row: pacsv.InvalidRow) -> str:
            refused.append(row.text or "")
            return "skip"

        table = pacsv.read_csv(
            pa.BufferReader(block),
            read_options=pacsv.ReadOptions(column_names=self.header, block_size=len(block) + 1, use_threads=False),
            parse_options=pacsv.ParseOptions(
                delimiter=self.separator, quote_char=quote_char, invalid_row_handler=refuse
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(self.header, pa.string()),
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
                check_utf8=False,
            ),
        )
        if len(table) < len(numbers):  # else every line is a row
            fits, blank = self._fitting(block)
            malformed.extend(zip(numbers[~fits & ~blank].tolist(), refused, strict=True))
            numbers = numbers[fits]
        yield from self._finish(table, numbers, malformed)

    def _fitting(self, block: bytes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which lines of a block are rows of the header's width, and which are blank and none."""
        lines = Lines.of(block)
        blank = lines.ends - lines.starts == 1
        in_line = np.searchsorted(lines.ends, np.flatnonzero(lines.data == ord(self.separator)), side="right")
        fits = np.bincount(in_line, minlength=len(lines.ends)) == len(self.header) - 1
        for number in np.flatnonzero(lines.quotes).tolist():  # separators inside quotes are none
            fits[number] = quoted_row(lines.text(number, number), len(self.header), self.separator) is not None
        return fits & ~blank, blank

    def _finish(self, table: pa.Table, numbers: Numbers, malformed: list[Numbered[str]]) -> Iterator[pa.RecordBatch]:
        first = self.header[0]
        if pc.any(pc.match_substring(table[first], first, ignore_case=True)).as_py():  # perhaps the header once more
            repeated = pc.equal(pc.utf8_lower(pc.utf8_trim_whitespace(table[first])), first.lower())
            for name in self.header[1:]:
                same = pc.equal(pc.utf8_lower(pc.utf8_trim_whitespace(table[name])), name.lower())
                repeated = pc.and_(repeated, same)
            again = repeated.to_numpy().astype(bool)
            malformed.extend((number, self.separator.join(self.header)) for number in numbers[again].tolist())
            table, numbers = table.filter(pc.invert(repeated)), numbers[~again]
        extra = pa.nulls(len(table), pa.string())
        if self.extra:
            kept = [self._kept(row) for row in table.select(self.extra).to_pylist()]
            extra = pa.array(kept, pa.string())
        columns = [table[name] for name in self.columns]
        no_text = pa.nulls(len(table), pa.string())
        whole = pa.table([*columns, extra, no_text, pa.array(numbers, pa.int64())], schema=self.schema)
        yield from whole.combine_chunks().to_batches(max_chunksize=65_536)

    @staticmethod
    def _kept(row: dict[str, str]) -> str | None:
        """Values of further columns as a JSON object, or None without any.

        Of the column without a name, which a separator at the end makes, only a value counts; what is an object in a
        column `EXTRA_COLUMNS` already is kept as it is.
        """
        objects = row.get(EXTRA_COLUMNS, "")
        if objects[:1] == "{" and objects[-1:] == "}":
            further = {name: value for name, value in row.items() if value and name != EXTRA_COLUMNS}
            return objects if not further else json.dumps(json.loads(objects) | further, ensure_ascii=False)
        kept = {name: value for name, value in row.items() if value or name not in ("", EXTRA_COLUMNS)}
        return json.dumps(kept, ensure_ascii=False) if kept else None


def _needs_care(block: bytes) -> bool:
    """Whether a block has anything but plain rows of fitting length; carriage returns that end a line are plain."""
    if (
        b'"' in block
        or block.count(b"\r") != block.count(b"\r\n")
        or len(block.translate(None, CONTROL_BYTES)) != len(block)
    ):
        return True
    half = MAX_ROW_BYTES // 2  # a row over the limit covers some half-limit window without a line end
    return any(block.find(b"\n", at, at + half) < 0 for at in range(0, len(block) - half, half))


def _lines_with_control(lines: Lines) -> npt.NDArray[Any]:
    """Numbers of the lines with a control character, or a carriage return that does not end them."""
    data = lines.data
    at = np.flatnonzero(_IS_CONTROL[data])
    is_return, following = data[at] == CARRIAGE_RETURN, data[np.minimum(at + 1, len(data) - 1)]
    ends_line = is_return & (following == LINE_FEED)
    ends_line |= is_return & (following == CARRIAGE_RETURN) & (data[np.minimum(at + 2, len(data) - 1)] == LINE_FEED)
    return np.searchsorted(lines.ends, at[~ends_line], side="right")


def _soundly_quoted(lines: Lines, among: npt.NDArray[Any], separator: str) -> npt.NDArray[Any]:
    """Which lines are a whole row by themselves, quotes only where the format has them; looked up ``among`` some."""
    sound = np.zeros(len(lines.ends), bool)
    looked_up = lines.as_array().take(pa.array(among))
    divider = re.escape(separator)
    value = rf'(?:[^"{divider}\x00-\x08\x0b-\x1f\x7f]*|{_QUOTED_VALUE})'
    sound_line = rf"^{value}(?:{divider}{value})*\r?\r?\n$"
    sound[among] = pc.match_substring_regex(looked_up, sound_line).to_numpy(zero_copy_only=False)
    return sound


def _joined(lines: Lines, wanted: npt.NDArray[Any]) -> bytes:
    """The wanted lines of a block, each ended by a line feed alone."""
    bounds = np.flatnonzero(np.diff(np.concatenate(([False], wanted, [False])))).reshape(-1, 2).tolist()
    return _with_line_feeds(b"".join(lines.text(first, behind - 1) for first, behind in bounds))


def _has_control(value: str) -> bool:
    data = value.encode("utf-8")
    return len(data.translate(None, CONTROL_BYTES)) != len(data)
