"""Splits landed files again when the time zones that decide the day of a row have changed.

What `lakehouse land` divided is put together and divided by the days of the settings' zones: then the landing zone is
what it were if the same files were landed now. The new files are staged whole; then a plan is written, and from it they
are swapped in. A process that dies before the plan leaves the files as they were; of one that dies after it the next
finishes the plan. Readers in between see a mix of both, and their day is stale afterwards, as its files have changed.
See docs/decisions/0013-the-day-of-a-row.md.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from datetime import date
from typing import Any

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.calendar import at_most, some
from lakehouse_assets.landing import divisions
from lakehouse_assets.landing.divisions import FOLDER, Zones, key_of
from lakehouse_assets.landing.event_days import DayReader
from lakehouse_assets.landing.files import SUCCESS_MARKER, LandedFile
from lakehouse_assets.landing.headers import Inspection, header_line
from lakehouse_assets.landing.row_blocks import row_blocks, whole_file
from lakehouse_assets.landing.sinks import Sinks
from lakehouse_assets.landing.text_files import FileRefused
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.settings import Settings

_PLAN = re.compile(rf"{re.escape(FOLDER)}/plans/([0-9a-f]+)\.json")
_STAGED = f"{FOLDER}/staged/"
_TOLD = 3
_TELL_SECONDS = 2

Say = Callable[[str], None]


@dataclass(frozen=True)
class Waiting:
    """Files of one name that were divided by the days of other zones than the settings have.

    Attributes:
        name: of the files.
        by: zones they were divided by; those of the settings too, where some of them were.
        deliveries: landing dates of each delivery.
    """

    name: str
    by: Sequence[Zones]
    deliveries: divisions.Deliveries

    @property
    def days(self) -> list[date]:
        """Landing dates that have such a file."""
        return sorted({day for delivery in self.deliveries for day in delivery})


def waiting(zone: LandingZone, settings: Settings) -> list[Waiting]:
    """Files that must be split again, or whose splitting was interrupted."""
    return sorted(_waiting(zone, zone.storage.notes(FOLDER), Zones.of(settings)), key=lambda one: one.name)


def told(files: Sequence[Waiting], settings: Settings) -> str:
    """Which files must be split again and why, in a sentence."""
    named = at_most([one.name for one in files], _TOLD)
    other = sorted({zones for one in files for zones in one.by} - {Zones.of(settings)})
    by = f" by {' and by '.join(map(str, other))}" if other else ""
    were = "was" if len(files) == 1 else "were"
    return f"{', '.join(named)} {were} split{by}; the settings now say {Zones.of(settings)}"


def divide_again(zone: LandingZone, settings: Settings, say: Say) -> set[date]:
    """Divide landed files by the days of the settings' zones where they are divided by others.

    What can't be divided is said and stays as it is: a file that can't be read, or one that changes meanwhile.

    Returns:
        Landing dates whose files were changed.
    """
    if not waiting(zone, settings):
        return set()
    changed: set[date] = set()
    with zone.storage.alone():
        notes = zone.storage.notes(FOLDER)
        for entry in notes:
            if plan := _PLAN.fullmatch(entry):  # of a process that died
                changed |= _carry_out(zone, plan[1])
        found = waiting(zone, settings)
        if found:
            say(
                f"{_what_changed(found, settings)}: {told(found, settings)}; splitting {some(len(found), 'file')} again"
            )
            progress = _Progress(say)
            for one in found:
                try:
                    changed |= _divide(zone, settings, one, progress)
                except FileRefused as error:
                    say(f"{one.name} stays as it was split before: {error}")
    return changed


def _what_changed(files: Sequence[Waiting], settings: Settings) -> str:
    zones = {(zones.given, zones.reporting) for one in files for zones in one.by}
    if zones - {(settings.input_timezone, settings.reporting_timezone)}:
        return "the time zone has changed"
    return "the formats of timestamps have changed"


def _waiting(zone: LandingZone, notes: Sequence[str], now: Zones) -> Iterator[Waiting]:
    planned = {plan[1] for entry in notes if (plan := _PLAN.fullmatch(entry))}
    by_key = divisions.zones_by_key(notes)
    for key in sorted(by_key.keys() | planned):
        by = sorted(by_key.get(key, ()))
        if key in planned or by != [now]:
            noted = [divisions.read(zone.storage, key, zones) for zones in by]
            name = next((name for name, _ in noted if name), "")
            if name:  # else another process has just removed the note
                yield Waiting(name, by, [days for _, deliveries in noted for days in deliveries])


class _Progress:
    """Prints from time to time how many bytes are split."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._last = time.monotonic()

    def __call__(self, name: str, done: int, total: int) -> None:
        if time.monotonic() - self._last > _TELL_SECONDS:
            self._last = time.monotonic()
            self._say(f"  {name}: {min(done, total) / 1e6:,.0f} of {total / 1e6:,.0f} MB")


def _divide(zone: LandingZone, settings: Settings, one: Waiting, progress: _Progress) -> set[date]:
    """Stage the files of one name divided anew, plan the swap, carry it out; the landing dates it changed.

    Raises:
        FileRefused: one of them can't be read, or is another one now.
    """
    storage = zone.storage
    before = _files(zone, one)
    staged = f"{_STAGED}{key_of(one.name)}/{uuid.uuid4().hex}"
    with ExitStack() as stack:
        by_header: dict[tuple[str, ...], tuple[Sinks, list[set[date]]]] = {}
        done, total = 0, sum(file.size for file in before.values())
        unread = dict(before)
        for delivery in one.deliveries:
            into: dict[tuple[str, ...], set[date]] = {}
            for day in sorted(unread.keys() & set(delivery)):
                inspection = zone.inspect("interactions", unread.pop(day))
                header = (inspection.separator, *inspection.header)
                if header not in by_header:
                    sinks = Sinks(zone, one.name, header_line(inspection.header, inspection.separator))
                    stack.callback(sinks.discard)
                    by_header[header] = sinks, []
                sinks, days = by_header[header][0], into.setdefault(header, set())
                for new_day, rows, count in _rows(inspection, settings):
                    sinks.write(new_day, rows, count)
                    if new_day:
                        days.add(new_day)
                done += before[day].size
                progress(one.name, done, total)
            for header, days in into.items():
                days.add(last := max(days or delivery))
                by_header[header][0].settle(last)
                by_header[header][1].append(days)
        new_days = {day for _, deliveries in by_header.values() for days in deliveries for day in days}
        # by a file that was delivered as it is
        taken = {day for day in new_days - before.keys() if storage.find("interactions", day, one.name)}
        parts: list[tuple[str, date, str]] = []
        noted: dict[str, list[list[date]]] = {}
        for sinks, deliveries in by_header.values():
            ready = {day: path for day, path in sinks.temporary.items() if day}
            # where two files of the name meet that can't be one, the later gets a name of its own
            other = one.name if taken.isdisjoint(ready) else _other_name(zone, one.name)
            for day in sorted(ready):
                storage.write_note(entry := f"{staged}/{len(parts)}", sinks.temporary.pop(day))
                parts.append((entry, day, other if day in taken else one.name))
            for name, mine in ((one.name, ready.keys() - taken), (other, ready.keys() & taken)):
                noted.setdefault(name, []).extend(_each_once([days & mine for days in deliveries]))
            taken |= ready.keys()
    new = {day for _, day, name in parts if name == one.name}
    marked = storage.marked("interactions") if settings.success_marker else set()
    plan = {
        "name": one.name,
        "given": settings.input_timezone,
        "reporting": settings.reporting_timezone,
        "formats": settings.timestamp_formats,
        "parts": [(entry, day.isoformat(), name) for entry, day, name in parts],
        "gone": [day.isoformat() for day in sorted(before.keys() - new)],
        "marked": [day.isoformat() for day in sorted(new - before.keys()) if marked >= before.keys()],
        "was": [astuple(zones) for zones in one.by],
        "noted": {name: [[day.isoformat() for day in days] for days in of] for name, of in noted.items() if any(of)},
    }
    entry = _plan_of(key_of(one.name))
    if not storage.write_note(entry, json.dumps(plan).encode(), anew=True):
        _discard(zone, staged)
        raise FileRefused(one.name, "another process is splitting it")
    if _files(zone, one) != before:
        storage.drop_note(entry)
        _discard(zone, staged)
        raise FileRefused(one.name, "was landed again meanwhile; the next run splits it")
    return _carry_out(zone, key_of(one.name))


def _plan_of(key: str) -> str:
    return f"{FOLDER}/plans/{key}.json"


def _files(zone: LandingZone, one: Waiting) -> dict[date, LandedFile]:
    found = {day: zone.storage.find("interactions", day, one.name) for day in one.days}
    return {day: file for day, file in found.items() if file}


def _rows(inspection: Inspection, settings: Settings) -> Iterator[tuple[date | None, bytes, int]]:
    reader = DayReader(
        inspection.header,
        inspection.header.index("timestamp"),
        settings.input_zone,
        settings.reporting_zone,
        settings.today(),
        settings.timestamp_formats,
        inspection.separator,
    )
    for block in row_blocks(whole_file(inspection, DATASETS["interactions"]), keep_long_rows=True):
        yield from reader.divide(block)


def _each_once(deliveries: Sequence[set[date]]) -> list[list[date]]:
    """Dates of each delivery, one that several have only with the last, as its file is one file now."""
    found, later = [], set[date]()
    for days in reversed(deliveries):
        found.append(sorted(days - later))
        later |= days
    return found[::-1]


def _other_name(zone: LandingZone, name: str) -> str:
    """A name like it that no landed file has."""
    names = {file.path.name for files in zone.storage.listing("interactions").values() for file in files}
    stem = name.removesuffix(".csv")
    return next(other for number in range(2, len(names) + 3) if (other := f"{stem}.{number}.csv") not in names)


def _carry_out(zone: LandingZone, key: str) -> set[date]:
    """Swap in what the plan of a name says, from wherever it was left; the landing dates it changed."""
    storage, entry = zone.storage, _plan_of(key)
    content = storage.read_note(entry)
    if content is None:  # another process has just done it
        return set()
    plan: dict[str, Any] = json.loads(content)
    name = plan["name"]
    parts = [(part, date.fromisoformat(day), own_name) for part, day, own_name in plan["parts"]]
    gone = [date.fromisoformat(day) for day in plan["gone"]]
    for part, day, own_name in parts:
        storage.publish_note(part, "interactions", day, own_name)
    for day in gone:
        storage.vacate("interactions", day, name)
    for day_text in plan["marked"]:
        storage.write_note(f"interactions/date={day_text}/{SUCCESS_MARKER}", b"")
    now = Zones(plan["given"], plan["reporting"], tuple(plan.get("formats", ())))  # earlier versions had none
    for own_name, deliveries in plan["noted"].items():
        divisions.write(storage, own_name, now, [[date.fromisoformat(d) for d in days] for days in deliveries])
    for given, reporting, *formats in plan["was"]:
        was = Zones(given, reporting, tuple(*formats))
        if was != now:
            divisions.write(storage, name, was, [])
    storage.drop_note(entry)
    _discard(zone, f"{_STAGED}{key}")
    return {day for _, day, _ in parts} | set(gone)


def _discard(zone: LandingZone, below: str) -> None:
    for entry in zone.storage.notes(below):
        zone.storage.drop_note(entry)
