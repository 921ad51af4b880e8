"""What a delivered CSV file is: encoding, separator, header, and what reading each byte of it once has shown.

A file that can't be what it claims to be (wrong encoding, no header, cut gzip) is refused whole.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from lakehouse_assets.landing.text_files import (
    BLOCK_BYTES,
    COMPRESSIONS,
    FileRefused,
    compression,
    open_bytes,
    open_text_bytes,
)
from lakehouse_assets.storage.s3 import S3Path

EXTRA_COLUMNS = "extra_columns"  # what bronze keeps of further columns: a JSON object
UTF8_BOM = codecs.BOM_UTF8
SEPARATORS = ",;\t|"  # that a header may be divided by
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
    *((magic, f"compressed twice; unpack it once ({kind})") for magic, kind, _ in COMPRESSIONS),
)


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
    if "" not in header:
        other: tuple[str, ...] = (*header, "")
    elif header[-1] == "":
        other = header[:-1]
    else:
        return header

    def fits(row: list[str]) -> bool:
        return len(row) == len(other) and (len(other) < len(header) or not row[-1])

    lines = text.splitlines()[: -1 if len(text) > _SAMPLED_BYTES else None]
    rows = (row for line in lines if line.strip() and (row := _divided(line.decode("utf-8", "replace"), separator)))
    first = next(rows, None)  # without those over lines; most often it decides alone
    return other if first and all(map(fits, chain([first], rows))) else header


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
