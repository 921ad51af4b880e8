"""Reading delivered CSV files exactly: no row lost, no value changed, and what can't be trusted refused by name.

A *file* that can't be what it claims to be (wrong encoding, no header, cut gzip) is refused whole. A *row* that does
not fit the header is kept as delivered text, as malformed. Rows without a quote go through Arrow's parser in blocks;
only rows with quotes take the slower path. This module runs on the driver and on Spark's workers, which load it for
their first task: it imports neither Spark, Dagster nor anything else that is slow to load.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.assets.division import PART
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.settings import in_utf8
from lakehouse_assets.storage.s3 import S3Path, name_of, open_object, readable

SOURCE_LINE = "source_line"  # the line of the file that a row begins on
EXTRA_COLUMNS = "extra_columns"  # what bronze keeps of further columns: a JSON object
BLOCK_BYTES = 4 << 20
CHUNK_BYTES = 32 << 20
MAX_ROW_BYTES = 1 << 20  # a longer row is quarantined, and so is a quoted value that never ends
LONGEST_KEPT_ROW_BYTES = 64 << 20  # what landing, which keeps rows as they are, holds in memory at most
UTF8_BOM = codecs.BOM_UTF8
csv.field_size_limit(MAX_ROW_BYTES)  # the default limit of 128 KiB is arbitrary
_LINE_FEED, _CARRIAGE_RETURN, _QUOTE = b'\n\r"'

# C0 controls but tab, line feed and carriage return, and DEL: no text column holds them on purpose
CONTROL_BYTES = bytes(set(range(32)) - {9, 10, 13} | {127})
# What a file is by its first bytes, the ending it has in the landing zone, and how its text is read.
_COMPRESSIONS = (
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"PK\x03\x04", "zip", ".zip"),
    (b"PK\x05\x06", "zip", ".zip"),  # one without a file in it
    (b"BZh", "bzip2", ".bz2"),
    (b"\xfd7zXZ\x00", "xz", ".xz"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst"),
    (b"\x50\x2a\x4d\x18", "zstd", ".zst"),  # as pzstd begins one
)
COMPRESSED_ENDINGS = tuple(dict.fromkeys(ending for _, _, ending in _COMPRESSIONS))
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, pa.ArrowException)
_LINE_END = re.compile(rb"\r+\n")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # what spreadsheets put before the header
_AROUND_NAMES = " \t\r\xa0\ufeff"  # a second byte order mark too: tools that join files write it
_SHOWN_CHARACTERS = 100
_SAMPLED_BYTES = 64 << 10  # of the rows that tell whether each ends with a separator
# other files by their first bytes, and what makes one of ours of them
_FOREIGN = (
    (b"PAR1", "Parquet, but the landing zone holds CSV; remove it and land it with `lakehouse land`"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack it"),
    (b"\x04\x22\x4d\x18", "compressed with LZ4; unpack it, or compress it with zstd"),
    (b"\xff\x06\x00\x00sNaPpY", "compressed with Snappy; unpack it, or compress it with zstd"),
    (b"\x1f\x9d", "compressed with compress (.Z); unpack it, or compress it with gzip"),
    (b"\x5d\x00\x00", "compressed with LZMA; unpack it, or compress it with xz"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook; save its sheet as CSV UTF-8"),
    (b"SQLite format 3\x00", "an SQLite database; export its table as CSV"),
    (b"Obj\x01", "an Avro file; write it as Parquet, JSON Lines or CSV"),
    (b"ARROW1\x00", "an Arrow file; write it as Parquet or CSV"),
    (b"%PDF-", "a PDF; export the data as CSV"),
    *((magic, f"compressed twice; unpack it once ({kind})") for magic, kind, _ in _COMPRESSIONS),
)

_IS_CONTROL = np.isin(np.arange(256), [*CONTROL_BYTES, _CARRIAGE_RETURN])
SEPARATORS = ",;\t|"  # that a header may be divided by
_QUOTED_VALUE = r'"(?:[^"\x00-\x08\x0a-\x1f\x7f]|"")*"'


_Kept = TypeVar("_Kept")
Numbers = npt.NDArray[Any]  # of lines
Numbered: TypeAlias = tuple[int, _Kept]  # with the number of its line
Chosen = tuple[bytes, npt.NDArray[np.bool_]]  # lines of a block, and which they are


class FileRefused(LakehouseError):
    """A delivered file that can't be read as what it claims to be; the message names the file and the reason."""

    def __init__(self, path: Path | S3Path | str, reason: str) -> None:
        self.path = in_utf8(readable(str(path)))
        self.reason = reason
        super().__init__(f"{self.path}: {reason}")


@dataclass(frozen=True)
class Inspection:
    """What reading every byte of a file once has shown.

    Attributes:
        path: the file, or the object's location.
        size: bytes as stored.
        sha256: fingerprint of the bytes as stored.
        header: column names as delivered, stripped; the expected ones as they are expected, whatever their case.
        extra: delivered columns beyond the expected ones; a column without a name is none.
        compressed: the file is a compressed one.
        text_size: bytes of its text.
        data_start: offset of the first byte behind the header, in the text.
        quoted: a quote occurs, so that rows may span lines.
        carriage_returns_only: lines end with CR alone.
        complete_last_row: the last row ends with a line end.
        separator: what divides the values of a row.
        counted: offsets in the text, and how many line feeds are before each.
    """

    path: str
    size: int
    sha256: str
    header: tuple[str, ...]
    extra: tuple[str, ...]
    compressed: bool
    text_size: int
    data_start: int
    quoted: bool
    carriage_returns_only: bool
    complete_last_row: bool
    separator: str = ","
    counted: tuple[tuple[int, int], ...] = ((0, 0),)


@dataclass(frozen=True)
class Chunk:
    """A part of a file that one task reads: whole rows that begin in [start, end).

    ``counted`` is an offset before the start, and how many line feeds are before it.
    """

    path: str
    size: int
    header: tuple[str, ...]
    columns: tuple[str, ...]
    start: int
    end: int
    quoted: bool
    carriage_returns_only: bool
    separator: str = ","
    counted: tuple[int, int] = (0, 0)


def open_bytes(path: Path | str) -> tuple[io.BufferedReader, int]:
    """Open a file, or an object by its location; the stream and how many bytes it has."""
    if on_s3(str(path)):
        return open_object(str(path))
    stream = Path(path).open("rb")  # noqa: SIM115  the caller closes it
    return stream, os.fstat(stream.fileno()).st_size


@contextmanager
def open_text_bytes(path: Path | str, size: int | None = None) -> Iterator[BinaryIO]:
    """Open a CSV file for reading the bytes of its text, decompressed if its first bytes say that it is compressed.

    Args:
        path: the file, or the object's location.
        size: bytes it must have as stored.

    Raises:
        FileRefused: it has another size, so it is not the file that was looked at; or it is a damaged archive, or one
            of several files.
    """
    raw, found = open_bytes(path)
    with raw:
        if size is not None and found != size:
            raise FileRefused(path, "changed while it was read; run again when it is complete")
        kind, ending = compression(raw)
        if kind is None:
            ending = Path(name_of(str(path)).lower()).suffix
            if found and ending in COMPRESSED_ENDINGS:
                raise FileRefused(path, f"is named {ending} and is not compressed; name it .csv, or deliver it again")
            yield raw
            return
        try:
            with _decompressed(path, raw, kind) as text:
                yield text
        except _DAMAGED as error:
            raise FileRefused(path, f"damaged or cut {kind} ({error}); deliver the file again") from None
        except OSError as error:
            if error.errno is not None:  # bz2 has no error class of its own
                raise
            raise FileRefused(path, f"damaged or cut {kind} ({error}); deliver the file again") from None


def compression(stream: io.BufferedReader) -> tuple[str | None, str]:
    """What a stream is compressed with by its first bytes, None for nothing, and the ending of such a file's name."""
    head = stream.read(6)
    stream.seek(0)
    return next(((kind, ending) for magic, kind, ending in _COMPRESSIONS if head.startswith(magic)), (None, ""))


def _decompressed(path: Path | str, raw: io.BufferedReader, kind: str) -> BinaryIO:
    if kind == "gzip":
        return cast("BinaryIO", gzip.open(raw, "rb"))
    if kind == "bzip2":
        return cast("BinaryIO", bz2.open(raw, "rb"))
    if kind == "xz":
        return cast("BinaryIO", lzma.open(raw, "rb"))
    if kind == "zstd":
        return cast("BinaryIO", pa.CompressedInputStream(raw, "zstd"))
    archive = zipfile.ZipFile(raw)
    files = [file for file in archive.infolist() if not file.is_dir() and not file.filename.startswith("__MACOSX/")]
    if "[Content_Types].xml" in archive.namelist():
        raise FileRefused(path, "is an Excel workbook; save its sheet as CSV UTF-8")
    if len(files) != 1:
        raise FileRefused(path, f"is a zip archive of {len(files)} files; unpack it and land each of them")
    try:
        return cast("BinaryIO", archive.open(files[0]))
    except (RuntimeError, NotImplementedError) as error:  # a password, or a method that Python lacks
        raise FileRefused(path, f"is a zip archive that can't be unpacked ({error}); unpack it") from None


def inspect(path: Path | S3Path, columns: Sequence[str]) -> Inspection:
    """Look at every byte of a file once, in bounded memory.

    Raises:
        FileRefused: empty, not UTF-8, a cut or damaged archive, no header, or a column that is missing or there twice.
    """
    try:
        return _inspect(path.location if isinstance(path, S3Path) else str(path), columns)
    except OSError as error:
        raise FileRefused(path, f"can't be read ({error.strerror or error})") from None


def _inspect(path: str, columns: Sequence[str]) -> Inspection:
    digest = hashlib.sha256()
    raw, size = open_bytes(path)
    with raw:
        compressed = compression(raw)[0] is not None
        if compressed:
            while block := raw.read(BLOCK_BYTES):
                digest.update(block)
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    head = b""
    text_size = feeds = 0
    counted = [(0, 0)]
    quoted = carriage_returns = line_feeds = False
    last = b""
    with open_text_bytes(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            if not compressed:
                digest.update(block)
            text_size += len(block)
            if not head:
                head = block
                _refuse_other_encodings(path, head)
            try:
                if not block.isascii() or decoder.getstate()[0]:
                    decoder.decode(block)
            except UnicodeDecodeError as error:
                raise FileRefused(
                    path, f"is not UTF-8 (byte 0x{error.object[error.start]:02x}); convert it to UTF-8"
                ) from None
            quoted = quoted or b'"' in block
            line_feeds = line_feeds or b"\n" in block
            carriage_returns = carriage_returns or b"\r" in block
            last = block[-1:]
            feeds += block.count(b"\n")
            counted.append((text_size, feeds))
    if text_size == 0:
        raise FileRefused(path, "is empty (0 bytes); a day without rows needs at least the header")
    if decoder.getstate()[0]:
        raise FileRefused(path, "is not UTF-8 (ends inside a character); deliver the file again")
    bare = head.removeprefix(UTF8_BOM)
    separator, header, end = _header(path, bare.replace(b"\r", b"\n") if not line_feeds else bare, columns)
    return Inspection(
        path=path,
        size=size,
        sha256=digest.hexdigest(),
        header=header,
        extra=tuple(name for name in header if name and name not in (*columns, EXTRA_COLUMNS)),
        compressed=compressed,
        text_size=text_size,
        data_start=len(head) - len(bare) + end,
        quoted=quoted,
        carriage_returns_only=carriage_returns and not line_feeds,
        complete_last_row=last in (b"\n", b"\r"),
        separator=separator,
        counted=tuple(counted),
    )


def _refuse_other_encodings(path: str, head: bytes) -> None:
    if what := next((what for magic, what in _FOREIGN if head.startswith(magic)), None):
        raise FileRefused(path, f"is {what}")
    if head.removeprefix(UTF8_BOM).lstrip()[:1] == b"{":
        raise FileRefused(path, "is JSON, but the landing zone holds CSV; remove it and land it with `lakehouse land`")
    if head[257:262] == b"ustar":
        raise FileRefused(path, "is a tar archive; unpack it and land each of its files")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\x00" in head[: head.find(b"\n")][:200]:
        raise FileRefused(path, "is not UTF-8 (it looks like UTF-16); convert it to UTF-8")
    if head.removeprefix(UTF8_BOM).lstrip()[:1] == b"<":
        raise FileRefused(path, "is an HTML or XML page, not CSV; check what the download returned")


def _header(path: str, text: bytes, columns: Sequence[str]) -> tuple[str, tuple[str, ...], int]:
    """The separator, the column names, and where the first row begins."""
    line, said, end = _first_line(text)
    separator = _separator(path, line, columns, said)
    header = _column_names(path, line, separator, columns)
    return separator, _as_wide_as_rows(header, text[end : end + _SAMPLED_BYTES + 1], separator), end


def _as_wide_as_rows(header: tuple[str, ...], text: bytes, separator: str) -> tuple[str, ...]:
    """A header with or without an empty last column, as the first rows have one: they end with a separator or don't."""
    lines = text.splitlines()[: -1 if len(text) > _SAMPLED_BYTES else None]
    rows = [_divided(line.decode("utf-8", "replace"), separator) for line in lines if line.strip()]
    rows = [row for row in rows if row]  # without those over lines
    if not rows:
        return header
    if "" not in header and all(len(row) == len(header) + 1 and not row[-1] for row in rows):
        return (*header, "")
    if header[-1] == "" and all(len(row) == len(header) - 1 for row in rows):
        return header[:-1]
    return header


def _first_line(text: bytes) -> tuple[str, str, int]:
    """The header as it is written, the separator that a line above it says, and where the next line begins.

    Blank lines, comments and a line that says the separator may stand before the header.
    """
    at, said = 0, ""
    while True:
        end = text.find(b"\n", at) + 1 or len(text) + 1
        line = text[at:end].decode("utf-8", "replace").strip("\r\n")
        separator_line = _SEPARATOR_LINE.fullmatch(line.strip(" "))
        said = separator_line[1] if separator_line else said
        if end > len(text) or (line.strip() and not line.startswith("#") and not separator_line):
            return line, said, end
        at = end


def names_in_header(text: bytes) -> list[str]:
    """The column names at the beginning of a file."""
    line, said, _ = _first_line(text.removeprefix(UTF8_BOM).replace(b"\r", b"\n"))
    return max(([name for name in _divided(line, one) if name] for one in said or SEPARATORS), key=len)


def _separator(path: str, line: str, columns: Sequence[str], said: str) -> str:
    """The separator of a header: the one that yields most of our columns.

    Raises:
        FileRefused: the line above says that it is something else.
    """
    ours = [_in_our_letters(_divided(line, separator), columns) for separator in SEPARATORS]
    found = [sum(name in header for name in columns) for header in ours]
    best = SEPARATORS[found.index(max(found))]
    if said and said != best and max(found):
        raise FileRefused(
            path,
            f"its first line says that columns are separated by {said!r}, but its header uses {best!r}; correct it",
        )
    return best if max(found) else said or best


def _divided(line: str, separator: str) -> list[str]:
    try:
        return [name.strip(_AROUND_NAMES) for name in next(csv.reader([line], delimiter=separator, strict=True), [])]
    except csv.Error:
        return []


def _in_our_letters(header: list[str], columns: Sequence[str]) -> list[str]:
    """A header with our columns in our spelling; other letter case is accepted if it is unambiguous."""
    for name in columns:
        alike = [i for i, found in enumerate(header) if found.casefold() == name.casefold()]
        if name not in header and len(alike) == 1:
            header[alike[0]] = name
    return header


def header_line(names: Sequence[str], separator: str, line_end: bytes = b"\n") -> bytes:
    """The header of a file, after a line that says what divides it where a header alone could not tell."""
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="").writerow(names)
    said = b"" if separator in SEPARATORS else b"sep=" + separator.encode() + line_end
    return said + out.getvalue().encode() + line_end


def _column_names(path: str, line: str, separator: str, columns: Sequence[str]) -> tuple[str, ...]:
    header = _in_our_letters(_divided(line, separator), columns)
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise FileRefused(path, f"column {twice[0]!r} appears twice; give each column a name of its own")
    missing = [name for name in columns if name not in header]
    if missing == list(columns):
        shown = line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}…"
        raise FileRefused(
            path,
            f"header not recognised; required: {', '.join(columns)}; found: {shown!r}. If the columns have other "
            f"names, map them: `--map {columns[0]}=YOUR_NAME`, or see what `lakehouse land --try` proposes",
        )
    if missing:
        lacks = f"column {missing[0]!r} is" if len(missing) == 1 else f"columns {', '.join(map(repr, missing))} are"
        raise FileRefused(
            path,
            f"{lacks} missing; found: {', '.join(filter(None, header))}. If the file has other names for them, "
            f"map them: `--map {missing[0]}=YOUR_NAME`",
        )
    if "" in header[1:-1] or header.count("") > 1:  # the first one may be the row numbers that pandas writes
        nameless = header.index("", 1) + 1
        raise FileRefused(path, f"column {nameless} has no name; name it or remove it")
    return tuple(header)


def chunks(inspection: Inspection, columns: Sequence[str]) -> list[Chunk]:
    """Divide a file among tasks. Only in a plain file without quotes is each line end certainly a row end."""
    whole = inspection.quoted or inspection.carriage_returns_only or inspection.compressed
    step = inspection.size if whole else CHUNK_BYTES
    return [
        Chunk(
            path=inspection.path,
            size=inspection.size,
            header=inspection.header,
            columns=tuple(columns),
            start=start,
            end=-1 if whole else start + step,
            quoted=inspection.quoted,
            carriage_returns_only=inspection.carriage_returns_only,
            separator=inspection.separator,
            counted=max((mark for mark in inspection.counted if mark[0] < start), default=(0, 0)),
        )
        for start in range(inspection.data_start, max(inspection.size, inspection.data_start + 1), max(step, 1))
    ][: 1 if whole else None]


def whole_file(inspection: Inspection, columns: Sequence[str]) -> Chunk:
    """All of a file as one part, of which the columns are wanted."""
    return Chunk(
        path=inspection.path,
        size=inspection.size,
        header=inspection.header,
        columns=tuple(columns),
        start=inspection.data_start,
        end=-1,
        quoted=inspection.quoted,
        carriage_returns_only=inspection.carriage_returns_only,
        separator=inspection.separator,
    )


def read_chunk(chunk: Chunk) -> Iterator[pa.RecordBatch]:
    """The rows of a chunk: the expected columns, extra_columns (JSON), malformed_row (text) and `SOURCE_LINE`.

    Raises:
        FileRefused: the file is not the one that was inspected any more.
    """
    parser = BlockParser(chunk.header, chunk.columns, chunk.separator)
    line = _first_row_line(chunk)
    for block in row_blocks(chunk):
        yield from parser.parse(block, line)
        line += block.count(b"\n")


def _first_row_line(chunk: Chunk) -> int:
    """The number of the line that a chunk's first row begins on; a file's first line is 1."""
    offset, feeds = chunk.counted
    line_end = b"\r" if chunk.carriage_returns_only else b"\n"
    with open_text_bytes(chunk.path, chunk.size) as stream:
        _skip(stream, offset)
        before = stream.read(chunk.start - offset)
    inside_a_line = bool(before) and not before.endswith(line_end)
    return feeds + before.count(line_end) + 1 + inside_a_line


def read_tasks(tasks: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What a Spark task does: read the chunks it was dealt (columns `PART`, landing_date, chunk as JSON).

    Returns:
        `PART`, landing_date, the columns of `read_chunk`, source_file.
    """
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


def row_blocks(chunk: Chunk, *, keep_long_rows: bool = False) -> Iterator[bytes]:
    """Blocks of whole rows, each ending with a line feed, none longer than a block and a row.

    Args:
        chunk: what to read.
        keep_long_rows: hand out a row over `MAX_ROW_BYTES` whole instead of its beginning.

    Raises:
        FileRefused: the file has another size by now, or a row to be kept whole is longer than
            `LONGEST_KEPT_ROW_BYTES`.
    """
    with open_text_bytes(chunk.path, chunk.size) as stream:
        position = chunk.start
        _skip(stream, max(position - 1, 0))
        if position > 0:
            previous = stream.read(1)
            if previous != b"\n" and not (previous == b"\r" and chunk.carriage_returns_only):
                position += len(stream.readline())  # the row belongs to the chunk before
        carry = b""
        skipping = False  # inside a row over the limit, of which the first bytes were handed out already
        while chunk.end < 0 or position < chunk.end:
            block = stream.read(BLOCK_BYTES if chunk.end < 0 else min(BLOCK_BYTES, chunk.end - position))
            if not block:
                break
            position += len(block)
            if chunk.end >= 0 and position >= chunk.end and block[-1:] != b"\n":
                rest = stream.readline(MAX_ROW_BYTES + 1)
                block, position = block + rest, position + len(rest)
            if chunk.carriage_returns_only:
                block = block.replace(b"\r", b"\n")
            if skipping:
                end = block.find(b"\n") + 1
                skipping = end == 0
                block = block[end:] if end else b""
            data = carry + block
            cut = _last_row_end(data, len(chunk.header), chunk.separator) if chunk.quoted else data.rfind(b"\n") + 1
            carry = data[cut:]
            if cut:
                yield data[:cut]
            if len(carry) > MAX_ROW_BYTES and not keep_long_rows:
                yield carry[: MAX_ROW_BYTES + 1] + b"\n"
                carry, skipping = b"", True
            if len(carry) > LONGEST_KEPT_ROW_BYTES:
                raise FileRefused(
                    chunk.path,
                    f"has a row of over {LONGEST_KEPT_ROW_BYTES >> 20} MiB that ends after byte {position}; "
                    "shorten it, or deliver the file as it is with --date",
                )
        if carry:
            yield carry if carry.endswith(b"\n") else carry + b"\n"


def _skip(stream: BinaryIO, size: int) -> None:
    if stream.seekable():
        stream.seek(size)
    else:
        stream.read(size)


@dataclass(frozen=True)
class Lines:
    """The lines of a block of text, and how many quotes each has; all of it ends with a line feed."""

    block: bytes
    data: npt.NDArray[np.uint8]
    starts: npt.NDArray[Any]
    ends: npt.NDArray[Any]
    quotes: npt.NDArray[Any]

    @classmethod
    def of(cls, block: bytes) -> Self:
        """Find the lines of a block."""
        data = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(data == _LINE_FEED) + 1
        in_line = np.searchsorted(ends, np.flatnonzero(data == _QUOTE), side="right")
        return cls(block, data, np.concatenate(([0], ends[:-1])), ends, np.bincount(in_line, minlength=len(ends)))

    def as_array(self) -> pa.Array:
        """The lines as an Arrow array that shares the block's memory."""
        offsets = pa.py_buffer(np.append(self.starts, len(self.block)).astype(np.int64))
        return pa.Array.from_buffers(pa.large_binary(), len(self.ends), [None, offsets, pa.py_buffer(self.block)])

    def text(self, first: int, last: int) -> bytes:
        """The text of some lines, the last line end included."""
        return self.block[self.starts[first] : self.ends[last]]


def rows_over_lines(lines: Lines, width: int, separator: str) -> tuple[Mapping[int, int], int | None]:
    """Which rows span lines, by a quoted line end: the only place that decides it.

    A line with an odd number of quotes begins such a row if the next one closes it and both and what is between are
    exactly one row of ``width`` values; otherwise it is a row by itself, so an unclosed quote costs one row.

    Returns:
        The last line of each by its first, and the line whose quote may be closed behind the last line.
    """
    odd = np.flatnonzero(lines.quotes % 2).tolist()
    found: dict[int, int] = {}
    at = 0
    while at + 1 < len(odd):
        pair = quoted_row(lines.text(odd[at], odd[at + 1]), width, separator)
        if pair:
            found[odd[at]] = odd[at + 1]
        at += 2 if pair else 1
    return found, odd[at] if at < len(odd) else None


def quoted_row(text: bytes, width: int, separator: str) -> list[str] | None:
    """The one row of ``width`` values that a text is, or None where it is something else."""
    if len(text) > MAX_ROW_BYTES:
        return None
    body = _without_end(text).decode("utf-8", "replace")
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True)
    try:
        row = next(reader, [])
        return row if len(row) == width and next(reader, None) is None else None
    except csv.Error:
        return None


def _without_end(text: bytes) -> bytes:
    """A line or lines without the last line end, which some tools write as two carriage returns and a line feed."""
    return text.removesuffix(b"\n").rstrip(b"\r")


def _with_line_feeds(block: bytes) -> bytes:
    """Lines ended by a line feed alone."""
    block = block.replace(b"\r\n", b"\n")
    return _LINE_END.sub(b"\n", block) if b"\r\n" in block else block


def _last_row_end(data: bytes, width: int, separator: str) -> int:
    """Where the last row surely ends, counting from the start of a row.

    A value longer than a row may be is no value, so a quote open for longer holds nothing back.
    """
    last = data.rfind(b"\n") + 1
    if not last:
        return 0
    lines = Lines.of(data[:last])
    _, open_line = rows_over_lines(lines, width, separator)
    if open_line is None or len(data) - lines.starts[open_line] > MAX_ROW_BYTES:
        return last
    return int(lines.starts[open_line])


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
                kept = _without_end(text).decode("utf-8", "replace")
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
    is_return, following = data[at] == _CARRIAGE_RETURN, data[np.minimum(at + 1, len(data) - 1)]
    ends_line = is_return & (following == _LINE_FEED)
    ends_line |= is_return & (following == _CARRIAGE_RETURN) & (data[np.minimum(at + 2, len(data) - 1)] == _LINE_FEED)
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
