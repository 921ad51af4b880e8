"""Lands a file: as it is under one landing date, or split by event date."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.landing import divisions
from lakehouse_assets.landing.divisions import Zones
from lakehouse_assets.landing.event_days import DayReader
from lakehouse_assets.landing.files import LandingError
from lakehouse_assets.landing.headers import Inspection, header_line, inspect
from lakehouse_assets.landing.records import as_csv
from lakehouse_assets.landing.row_blocks import row_blocks, whole_file
from lakehouse_assets.landing.sinks import Landed, Sinks, check_replaced, count_rows
from lakehouse_assets.landing.text_files import COMPRESSED_ENDINGS, compression, open_text_bytes
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.settings import EARLIEST_LANDING_DATE, in_utf8, unreadable_name
from lakehouse_assets.timestamps import fitting_formats

_COMPRESSED = "|".join(map(re.escape, COMPRESSED_ENDINGS))
_NAME = re.compile(rf"(.*?)(?:\.csv)?((?:{_COMPRESSED})?)", re.IGNORECASE | re.DOTALL)
_LONGEST_NAME_BYTES = 255  # of a file, on every common file system

Progress = Callable[[int, int], None]


def deliver(
    zone: LandingZone,
    dataset: str,
    source: Path,
    day: date,
    renames: Mapping[str, str],
    *,
    today: date | None = None,
    replace: bool = False,
) -> Landed:
    """Deliver a file as it is under one landing date; only its header changes, and only with ``renames``.

    An earlier file of the same name gives way, but not to one with fewer rows, unless ``replace`` says so.

    Args:
        zone: the landing zone.
        dataset: ``interactions`` or ``users``.
        source: the file.
        day: landing date.
        renames: our column name -> theirs.
        today: the last landing date there may be; default today in UTC.
        replace: the file may have fewer rows than the one it replaces.

    Raises:
        FileRefused: the file can't be what it claims to be.
        LandingError: the file or the date can't be used, or the date would have fewer rows than before.
    """
    _check_day(day, today or datetime.now(tz=UTC).date())
    _check_source(source)
    with as_csv(source, DATASETS[dataset], renames, lambda: zone.storage.staging(dataset, None)) as (path, left):
        columns = [left.get(column, column) for column in DATASETS[dataset]]
        inspection = inspect(path, columns)
        name = _target_name(source, keep_compression=path == source and not left)
        earlier = zone.storage.find(dataset, day, name)
        if earlier and not replace:
            check_replaced(dataset, name, day, earlier, count_rows(whole_file(inspection, columns)))
        staged = _staged(zone, dataset, day, path, inspection, left)
    if dataset == "interactions":
        divisions.withdraw(zone.storage, name, day)
    target = zone.storage.publish(staged, dataset, day, name)
    return Landed({day: -1}, [target], [day] if earlier else [], extra=inspection.extra)


def _staged(
    zone: LandingZone, dataset: str, day: date, source: Path, inspection: Inspection, renames: Mapping[str, str]
) -> Path:
    """A copy of a file under a hidden name, its columns named as ours are."""
    folder = zone.storage.staging(dataset, day)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp", delete=False) as sink:
        try:
            with source.open("rb") if not renames else open_text_bytes(source) as stream:
                if renames:
                    line_end = b"\r" if inspection.carriage_returns_only else b"\n"
                    sink.write(_renamed_header(inspection, renames, line_end))
                    stream.read(inspection.data_start)
                shutil.copyfileobj(stream, sink, 4 << 20)
        except BaseException:
            Path(sink.name).unlink()
            raise
    return Path(sink.name)


def split(
    zone: LandingZone,
    source: Path,
    renames: Mapping[str, str],
    *,
    input_zone: ZoneInfo,
    reporting_zone: ZoneInfo,
    formats: Sequence[str] = (),
    progress: Progress | None = None,
    today: date | None = None,
    replace: bool = False,
) -> Landed:
    """Split a file of interactions by event date, in one pass and bounded memory, rows kept byte for byte.

    A row whose day can't be read, or lies outside 2000-01-01 … today, goes to the file's last date: it is rejected
    there and never lost. An earlier file of the same name gives way, but not to one with fewer rows of that date,
    unless ``replace`` says so.

    Raises:
        FileRefused: the file can't be what it claims to be.
        LandingError: no row has a usable day, or a date would have fewer rows than before.
    """
    _check_source(source)
    with ExitStack() as stack:
        staging = lambda: zone.storage.staging("interactions", None)  # noqa: E731
        path, left = stack.enter_context(as_csv(source, DATASETS["interactions"], renames, staging))
        columns = [left.get(name, name) for name in DATASETS["interactions"]]
        inspection = inspect(path, columns)
        days = DayReader(
            inspection.header,
            inspection.header.index(left.get("timestamp", "timestamp")),
            input_zone,
            reporting_zone,
            today or datetime.now(tz=UTC).date(),
            formats,
            inspection.separator,
        )
        zones = Zones(input_zone.key, reporting_zone.key, tuple(formats))
        header = _renamed_header(inspection, left)
        sinks = Sinks(zone, _target_name(source, keep_compression=False), header, zones)
        stack.callback(sinks.discard)
        done = 0
        for block in row_blocks(whole_file(inspection, columns), keep_long_rows=True):
            for day, rows, count in days.divide(block):
                sinks.write(day, rows, count)
            done += len(block)
            if progress:
                progress(done, inspection.text_size)
        if not sinks.days:
            raise LandingError(_without_days(sinks, days))
        return dataclasses.replace(sinks.publish(inspection.extra, replace=replace), unread=tuple(days.unread))


def _without_days(sinks: Sinks, days: DayReader) -> str:
    """Why a file can't be split, and what to do."""
    row = sinks.first_unreadable()
    if row is None:
        return f"{sinks.name} has a header and no rows, so its date is unknown; deliver it with --date D"
    if not days.unread:
        return (
            f"no row of {sinks.name} has the {days.width} values of its header; its first row is {row!r}. Deliver it "
            "again with the columns that the header names"
        )
    if formats := fitting_formats(days.unread, days.input_zone):
        either = " or ".join(json.dumps(form) for form in formats)
        return (
            f"no timestamp in {sinks.name} is readable; found {days.unread[0]!r} in the first row {row!r}. Its format "
            f"is {either}: set timestamp_formats = [{json.dumps(formats[0])}] in lakehouse.toml"
        )
    return (
        f"no timestamp in {sinks.name} is readable; expected YYYY-MM-DD HH:MM:SS from {EARLIEST_LANDING_DATE} to "
        f"today, found {days.unread[0]!r} in the first row {row!r}. Set its format with timestamp_formats in "
        "lakehouse.toml, or map another column with --map timestamp=YOUR_NAME"
    )


def _check_day(day: date, today: date) -> None:
    if not EARLIEST_LANDING_DATE <= day <= today:
        raise LandingError(f"--date {day} is not between {EARLIEST_LANDING_DATE} and today, {today}")


def _check_source(source: Path) -> None:
    if wrong := unreadable_name(source.name):
        raise LandingError(f"{in_utf8(source)}: {wrong}")
    if not source.exists():
        raise LandingError(f"{source}: no such file")
    if not source.is_file():
        raise LandingError(f"{source} is a folder; name the files in it")
    if not os.access(source, os.R_OK):
        raise LandingError(f"{source}: this user may not read it; change its permissions")


def landed_name(name: str, packed_as: str | None = None) -> str:
    """What a delivered file is called in the landing zone: its name with `.csv` at the end.

    So what differs in its ending lies side by side: `x.csv.bz2` becomes `x.bz2.csv`, `x.log` becomes `x.log.csv`. Only
    `x.csv.gz` is taken for the same delivery as `x.csv`, since many tools pack what they have written.

    Args:
        name: of the delivered file.
        packed_as: the ending of the compression that stays, empty for none; by default the text is unpacked.
    """
    found = _NAME.fullmatch(name.lstrip("._") or "delivery")
    assert found
    unpacked = found[2].lower().removesuffix(".gz") if packed_as is None else ""
    return f"{found[1]}{unpacked}.csv{packed_as or ''}"


def _target_name(source: Path, *, keep_compression: bool) -> str:
    packed_as = None
    if keep_compression:
        with source.open("rb") as stream:
            packed_as = compression(stream)[1]
    target = landed_name(source.name, packed_as)
    size = len(os.fsencode(target))
    if size > _LONGEST_NAME_BYTES:
        raise LandingError(
            f"{source}: landed as {target[-40:]} its name would have {size} bytes, and names of files end at "
            f"{_LONGEST_NAME_BYTES}; rename it"
        )
    return target


def _renamed_header(inspection: Inspection, renames: Mapping[str, str], line_end: bytes = b"\n") -> bytes:
    """The header of a landed file, with our names.

    A column that is called as ours is, while another one is mapped to it, stays as a further one.
    """
    theirs = {their: ours for ours, their in renames.items()}
    names = [theirs.get(name, f"delivered_{name}" if name in renames else name) for name in inspection.header]
    return header_line(names, inspection.separator, line_end)
