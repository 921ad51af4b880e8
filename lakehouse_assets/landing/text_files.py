"""Delivered files as the bytes of their text: opened, told by their first bytes, decompressed, or refused by name.

What is here runs on the driver and on Spark's workers, which load it for their first task: it imports neither Spark,
Dagster nor anything else that is slow to load.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.settings import in_utf8
from lakehouse_assets.storage.s3 import S3Path, name_of, open_object, readable

BLOCK_BYTES = 4 << 20
# What a file is by its first bytes, the ending it has in the landing zone, and how its text is read.
COMPRESSIONS = (
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"PK\x03\x04", "zip", ".zip"),
    (b"PK\x05\x06", "zip", ".zip"),  # one without a file in it
    (b"BZh", "bzip2", ".bz2"),
    (b"\xfd7zXZ\x00", "xz", ".xz"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst"),
    (b"\x50\x2a\x4d\x18", "zstd", ".zst"),  # as pzstd begins one
)
COMPRESSED_ENDINGS = tuple(dict.fromkeys(ending for _, _, ending in COMPRESSIONS))
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, pa.ArrowException)


class FileRefused(LakehouseError):
    """A delivered file that can't be read as what it claims to be; the message names the file and the reason."""

    def __init__(self, path: Path | S3Path | str, reason: str) -> None:
        self.path = in_utf8(readable(str(path)))
        self.reason = reason
        super().__init__(f"{self.path}: {reason}")


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
    return next(((kind, ending) for magic, kind, ending in COMPRESSIONS if head.startswith(magic)), (None, ""))


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
