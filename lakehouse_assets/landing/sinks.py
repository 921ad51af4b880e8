"""Writes split rows into the landing zone: one file a landing date, all published together."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.calendar import some
from lakehouse_assets.landing import divisions
from lakehouse_assets.landing.divisions import Zones
from lakehouse_assets.landing.files import LandedFile, LandingError, Place
from lakehouse_assets.landing.headers import inspect
from lakehouse_assets.landing.row_blocks import Chunk, Lines, row_blocks, rows_over_lines, whole_file
from lakehouse_assets.landing.text_files import FileRefused
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.stopping import STOP

_SHOWN_BYTES = 100  # of a row that a message shows
_BUFFERED_BYTES = 64 << 20
_CARRIAGE_RETURN = ord("\r")


@dataclass(frozen=True)
class Landed:
    """What one `land` did.

    Attributes:
        rows: per landing date; -1 where they were not counted.
        files: what was written.
        replaced: landing dates whose earlier file of the same name gave way.
        unreadable_day: rows whose day can't be read.
        unread: some of their timestamps.
        extra: columns that nothing is computed from.
    """

    rows: Mapping[date, int]
    files: Sequence[Place]
    replaced: Sequence[date]
    unreadable_day: int = 0
    extra: Sequence[str] = ()
    unread: Sequence[str] = ()


@dataclass
class Sinks:
    """One hidden file per landing date, published when all are complete."""

    zone: LandingZone
    name: str
    header: bytes
    zones: Zones | None = None  # whose days divide the rows, to be noted where the files are published here
    buffers: dict[date | None, list[bytes]] = field(default_factory=dict)
    counts: dict[date | None, int] = field(default_factory=dict)
    temporary: dict[date | None, Path] = field(default_factory=dict)
    buffered: int = 0

    def write(self, day: date | None, rows: bytes, count: int) -> None:
        """Add rows to the file of a date, or to those without a readable day."""
        self.buffers.setdefault(day, []).append(rows)
        self.counts[day] = self.counts.get(day, 0) + count
        self.buffered += len(rows)
        if self.buffered > _BUFFERED_BYTES:
            self._flush()

    @property
    def days(self) -> list[date]:
        """Dates that rows belong to, in order."""
        return sorted(day for day in self.counts if day)

    def first_unreadable(self) -> str | None:
        """The beginning of the first row without a readable day, if there is one."""
        if None not in self.counts:
            return None
        self._flush()
        with self.temporary[None].open("rb") as stream:
            return stream.readline(_SHOWN_BYTES).decode("utf-8", "replace").strip()

    def _flush(self) -> None:
        for day, rows in self.buffers.items():
            if day not in self.temporary:
                folder = self.zone.storage.staging("interactions", None)
                handle, path = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
                os.close(handle)
                self.temporary[day] = Path(path)
                self.temporary[day].write_bytes(self.header if day else b"")
            with self.temporary[day].open("ab") as sink:
                sink.writelines(rows)
        self.buffers, self.buffered = {}, 0

    def settle(self, last: date) -> int:
        """Put rows without a readable day into the file of a date; returns how many."""
        self._flush()
        unreadable = self.counts.pop(None, 0)
        if unreadable:
            rest = self.temporary.pop(None)
            self.write(last, b"", unreadable)
            self._flush()
            with rest.open("rb") as stream, self.temporary[last].open("ab") as sink:
                shutil.copyfileobj(stream, sink)
            rest.unlink()
        return unreadable

    def publish(self, extra: Sequence[str], *, replace: bool) -> Landed:
        """Publish all files, each in place of an earlier one of its name."""
        readable = self.days
        unreadable = self.settle(readable[-1])
        storage = self.zone.storage
        earlier = {day: file for day in readable if (file := storage.find("interactions", day, self.name))}
        for day, file in earlier.items():
            if not replace:
                check_replaced("interactions", self.name, day, file, self.counts[day])
        if self.zones:  # before the first file is there: a date that never comes does no harm
            divisions.add(storage, self.name, self.zones, readable)
        files = []
        with STOP.whole(f"lakehouse: stopped while {self.name} was landed, some of its days are; land it again"):
            for day in readable:
                files.append(storage.publish(self.temporary[day], "interactions", day, self.name))
                del self.temporary[day]
        return Landed({day: self.counts[day] for day in readable}, files, list(earlier), unreadable, extra)

    def discard(self) -> None:
        """Delete what is not published."""
        for path in self.temporary.values():
            path.unlink(missing_ok=True)


def check_replaced(dataset: str, name: str, day: date, earlier: LandedFile, rows: int) -> None:
    """Refuse a file with fewer rows than the landed one it would replace; one that can't be read may go.

    The next export may have the name of the last one, and its rows must not be lost.
    """
    columns = DATASETS[dataset]
    try:
        before = count_rows(whole_file(inspect(earlier.path, columns), columns))
    except FileRefused:
        return
    if rows < before:
        raise LandingError(
            f"{name} would replace {some(before, 'row')} of {day} with {some(rows, 'row')}; rename it to add its rows, "
            "or use --replace"
        )


def count_rows(whole: Chunk) -> int:
    """Rows of a file; one that is too long counts too, a blank line does not."""
    rows = 0
    for block in row_blocks(whole):
        lines = Lines.of(block)
        over_lines, _ = rows_over_lines(lines, len(whole.header), whole.separator)
        lengths, first_byte = lines.ends - lines.starts, lines.data[lines.starts]
        counted = (lengths > 1) & ((lengths > 2) | (first_byte != _CARRIAGE_RETURN))
        for first, last in over_lines.items():
            counted[first : last + 1] = False
        rows += int(counted.sum()) + len(over_lines)
    return rows
