"""Removes users' rows from landed files: every other byte, the compression and the name stay.

A row becomes a blank line, which is no row, so that others keep the numbers of their lines.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import itertools
import lzma
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.landing.divisions import FOLDER
from lakehouse_assets.landing.files import LandedFile
from lakehouse_assets.landing.headers import Inspection
from lakehouse_assets.landing.row_blocks import Lines, quoted_row, row_blocks, rows_over_lines, whole_file
from lakehouse_assets.landing.text_files import FileRefused, compression, open_bytes, open_text_bytes
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.people import BLANKS, People

_PREFIX = ".forget-"  # of files on their way; nobody reads a hidden one
_TEMPORARY = ".tmp"
_STAGED = f"{FOLDER}/staged/"  # of files that are divided again


@dataclass(frozen=True)
class Rewriting:
    """A landed file and what takes its place.

    Attributes:
        dataset: ``interactions`` or ``users``.
        day: its landing date.
        file: the file as it lies there.
        rows: rows that go.
        staged: the file without them.
        sha256: its fingerprint.
    """

    dataset: str
    day: date
    file: LandedFile
    rows: int
    staged: Path
    sha256: str


@dataclass(frozen=True)
class Planned:
    """What is to be done to the landing zone.

    Attributes:
        rewritings: files that have rows of the users.
        mentions: rows of other users that name one of them, which stay.
        unreadable: files that can't be looked into, and why.
    """

    rewritings: Sequence[Rewriting]
    mentions: int
    unreadable: Sequence[str]


def plan(zone: LandingZone, people: People) -> Planned:
    """Stage a copy, without the users' rows, of every landed file that has some."""
    _drop_staged(zone)
    rewritings: list[Rewriting] = []
    unreadable: list[str] = []
    mentions = 0
    for dataset, days in zone.listings().items():
        for day, files in days.items():
            for file in files:
                try:
                    rewriting, named = _staged(zone, dataset, day, file, people)
                except FileRefused as error:
                    unreadable.append(str(error))
                    continue
                mentions += named
                rewritings += [rewriting] if rewriting else []
    return Planned(rewritings, mentions, unreadable)


def carry_out(zone: LandingZone, rewritings: Sequence[Rewriting]) -> None:
    """Let the staged files appear, each whole, in the place of what they came from.

    Raises:
        FileRefused: a file has changed since it was looked at; run it again.
    """
    for one in rewritings:
        now = zone.storage.find(one.dataset, one.day, one.file.path.name)
        if now != one.file:
            raise FileRefused(one.file.path, "changed while users' rows were taken out of it; run it again")
        zone.storage.publish(one.staged, one.dataset, one.day, one.file.path.name)


def drop_hidden(zone: LandingZone, people: People) -> int:
    """Delete what commands that died have left on its way in the zone, if it holds the users' ids; how many files."""
    dropped = 0
    for entry in list(zone.storage.entries()):
        if not (entry.endswith(_TEMPORARY) and entry.rpartition("/")[2].startswith(".")) and _STAGED not in entry:
            continue
        content = zone.storage.read_note(entry) or b""
        if people.may_be_in(pa.array([content], pa.large_binary()))[0].as_py():
            zone.storage.drop_note(entry)
            dropped += 1
    return dropped


def _drop_staged(zone: LandingZone) -> None:
    for dataset in filter(zone.storage.has, DATASETS):
        for path in zone.storage.staging(dataset, None).glob(f"{_PREFIX}{dataset}-*{_TEMPORARY}"):
            path.unlink(missing_ok=True)


def _staged(
    zone: LandingZone, dataset: str, day: date, file: LandedFile, people: People
) -> tuple[Rewriting | None, int]:
    """The file without the users' rows, if it has any, and how many rows of others name them."""
    inspection = zone.inspect(dataset, file)
    gone = mentions = 0
    for block in _blocks(inspection, dataset):
        part = _without(block, inspection, people)
        gone, mentions = gone + part.gone, mentions + part.mentions
    if not gone:
        return None, mentions
    handle, name = tempfile.mkstemp(
        dir=zone.storage.staging(dataset, None), prefix=f"{_PREFIX}{dataset}-", suffix=_TEMPORARY
    )
    os.close(handle)
    staged = Path(name)
    try:
        with _compressed_alike(file, staged) as sink:
            sink.writelines(_rest(inspection, dataset, people))
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    with staged.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Rewriting(dataset, day, file, gone, staged, digest), mentions


def _blocks(inspection: Inspection, dataset: str) -> Iterator[bytes]:
    return row_blocks(whole_file(inspection, DATASETS[dataset]), keep_long_rows=True)


def _rest(inspection: Inspection, dataset: str, people: People) -> Iterator[bytes]:
    """The text of a file but for the users' rows, byte by byte as delivered."""
    with open_text_bytes(inspection.path, inspection.size) as text:
        yield text.read(inspection.data_start)
    part = _Part(b"", 0, 0, last_is_kept=False)
    for block in _blocks(inspection, dataset):
        yield part.rows
        part = _without(block, inspection, people)
        if inspection.carriage_returns_only:
            part = replace(part, rows=part.rows.replace(b"\n", b"\r"))
    # reading ends the last row where the file does not
    yield part.rows[:-1] if part.last_is_kept and not inspection.complete_last_row else part.rows


@dataclass(frozen=True)
class _Part:
    """What stays of a block, how many rows go, how many of others name the users, and whether its last row stays."""

    rows: bytes
    gone: int
    mentions: int
    last_is_kept: bool


def _without(block: bytes, inspection: Inspection, people: People) -> _Part:
    """A block of whole rows but for the users'."""
    lines = Lines.of(block)
    width, separator = len(inspection.header), inspection.separator
    user_at = inspection.header.index("user_id")
    looked_at = np.flatnonzero(people.may_be_in(lines.as_array()).to_numpy(zero_copy_only=False)).tolist()
    if not looked_at:
        return _Part(block, 0, 0, last_is_kept=True)
    over_lines, _ = rows_over_lines(lines, width, separator)
    first_of = {line: first for first, last in over_lines.items() for line in range(first, last + 1)}
    kept = np.ones(len(lines.ends), bool)
    gone = mentions = 0
    for first in sorted({first_of.get(line, line) for line in looked_at}):
        last = over_lines.get(first, first)
        text = lines.text(first, last)
        values = quoted_row(text, width, separator)
        if values is None:  # whose row it is, nobody can tell; it names them
            theirs = people.named_in(text.decode("utf-8", "replace"))
        else:
            theirs = values[user_at].strip(BLANKS) in people.ids
            mentions += not theirs and any(map(people.has, values))
        if theirs:
            kept[first : last + 1] = False
            gone += 1
    bounds = [0, *(np.flatnonzero(np.diff(kept)) + 1).tolist(), len(kept)]
    parts = [lines.text(begin, end - 1) for begin, end in itertools.pairwise(bounds)]
    rows = b"".join(part if kept[begin] else _blank(part) for begin, part in zip(bounds, parts, strict=False))
    return _Part(rows, gone, mentions, last_is_kept=bool(kept[-1]))


def _blank(text: bytes) -> bytes:
    """Blank lines in place of lines: the rows behind them keep the numbers of their lines."""
    return b"".join(b"\r\n" if line.endswith(b"\r") else b"\n" for line in text.split(b"\n")[:-1])


@contextmanager
def _compressed_alike(file: LandedFile, staged: Path) -> Iterator[BinaryIO]:
    """A sink that compresses as a file is compressed; the same rows give the same bytes."""
    raw, _ = open_bytes(file.location)
    with raw:
        kind, _ = compression(raw)
        member = zipfile.ZipFile(raw).infolist()[0].filename if kind == "zip" else ""
    with staged.open("wb") as stream:
        if kind is None:
            yield stream
        elif kind == "gzip":
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as sink:
                yield cast("BinaryIO", sink)
        elif kind == "zip":
            one = zipfile.ZipInfo(member)
            one.compress_type = zipfile.ZIP_DEFLATED
            with zipfile.ZipFile(stream, "w") as archive, archive.open(one, "w", force_zip64=True) as into:
                yield cast("BinaryIO", into)
        elif kind == "zstd":
            with pa.CompressedOutputStream(stream, "zstd") as compressed:
                yield cast("BinaryIO", compressed)
        elif kind == "bzip2":
            with bz2.open(stream, "wb") as packed:
                yield cast("BinaryIO", packed)
        else:
            with lzma.open(stream, "wb") as packed_by_xz:
                yield cast("BinaryIO", packed_by_xz)
