"""A CSV file's text in blocks of whole rows: which line ends are row ends, and how a file is divided among tasks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.landing.headers import Inspection
from lakehouse_assets.landing.text_files import BLOCK_BYTES, FileRefused, open_text_bytes

CHUNK_BYTES = 32 << 20
MAX_ROW_BYTES = 1 << 20  # a longer row is quarantined, and so is a quoted value that never ends
LONGEST_KEPT_ROW_BYTES = 64 << 20  # what landing, which keeps rows as they are, holds in memory at most
csv.field_size_limit(MAX_ROW_BYTES)  # the default limit of 128 KiB is arbitrary
LINE_FEED, CARRIAGE_RETURN, QUOTE = b'\n\r"'


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


def chunks(inspection: Inspection, columns: Sequence[str]) -> list[Chunk]:
    """Divide a file among tasks. Only in a plain file without quotes is each line end certainly a row end."""
    whole = whole_file(inspection, columns)
    if inspection.quoted or inspection.carriage_returns_only or inspection.compressed:
        return [whole]
    return [
        replace(
            whole,
            start=start,
            end=start + CHUNK_BYTES,
            counted=max((mark for mark in inspection.counted if mark[0] < start), default=(0, 0)),
        )
        for start in range(whole.start, max(inspection.size, whole.start + 1), CHUNK_BYTES)
    ]


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


def first_row_line(chunk: Chunk) -> int:
    """The number of the line that a chunk's first row begins on; a file's first line is 1."""
    offset, feeds = chunk.counted
    line_end = b"\r" if chunk.carriage_returns_only else b"\n"
    with open_text_bytes(chunk.path, chunk.size) as stream:
        _skip(stream, offset)
        before = stream.read(chunk.start - offset)
    inside_a_line = bool(before) and not before.endswith(line_end)
    return feeds + before.count(line_end) + 1 + inside_a_line


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
        ends = np.flatnonzero(data == LINE_FEED) + 1
        in_line = np.searchsorted(ends, np.flatnonzero(data == QUOTE), side="right")
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
    body = without_end(text).decode("utf-8", "replace")
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True)
    try:
        row = next(reader, [])
        return row if len(row) == width and next(reader, None) is None else None
    except csv.Error:
        return None


def without_end(text: bytes) -> bytes:
    """A line or lines without the last line end, which some tools write as two carriage returns and a line feed."""
    return text.removesuffix(b"\n").rstrip(b"\r")


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
