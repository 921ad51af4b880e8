"""Notes which files `lakehouse land` split, and by which time zones, so that they can be split again.

A note for each name and pair of zones lies in the landing zone: ``interactions/.divided/input=Z/reporting=Z/KEY.json``,
with ``formats=F`` before the key where the settings name formats of timestamps. A listing tells these settings, its
content the name and the landing dates of each delivery. Files put there otherwise have none. The key is a hash: a name
may be as long as a file system takes, and no search for ``*.csv`` finds a note.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from lakehouse_assets.landing.storage import Storage
    from lakehouse_assets.settings import Settings

FOLDER = "interactions/.divided"
_NOTE = re.compile(rf"{re.escape(FOLDER)}/input=(.+?)/reporting=(.+?)(?:/formats=([^/]+))?/([0-9a-f]+)\.json")

Deliveries = Sequence[Sequence[date]]  # landing dates of each delivery of a name, as far as they are still its own


@dataclass(frozen=True, order=True)
class Zones:
    """The settings that decide the day of a row.

    Attributes:
        given: time zone of timestamps without an offset.
        reporting: time zone whose calendar days are counted.
        formats: further formats of timestamps.
    """

    given: str
    reporting: str
    formats: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Zones:
        """Those of the settings."""
        return cls(settings.input_timezone, settings.reporting_timezone, settings.timestamp_formats)

    def __str__(self) -> str:
        formats = f", times also as {' and '.join(self.formats)}" if self.formats else ""
        return f"days of {self.reporting}, times without an offset in {self.given}{formats}"


def key_of(name: str) -> str:
    """What stands for the name of landed files in the names of notes."""
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def zones_by_key(notes: Iterable[str]) -> Mapping[str, list[Zones]]:
    """The zones that files were divided by, by the key of their name."""
    found: dict[str, list[Zones]] = {}
    for entry in notes:
        if note := _NOTE.fullmatch(entry):
            formats = tuple(map(unquote, note[3].split(","))) if note[3] else ()
            found.setdefault(note[4], []).append(Zones(note[1], note[2], formats))
    return found


def read(storage: Storage, key: str, zones: Zones) -> tuple[str, Deliveries]:
    """The name that a key stands for, and its deliveries that were divided by these zones; empty without a note."""
    noted = json.loads(storage.read_note(_entry(key, zones)) or b'{"name": "", "deliveries": []}')
    return noted["name"], [[date.fromisoformat(day) for day in days] for days in noted["deliveries"]]


def write(storage: Storage, name: str, zones: Zones, deliveries: Deliveries) -> None:
    """Note the deliveries of a name, all of them; without a date no note is left."""
    left = [[day.isoformat() for day in sorted(days)] for days in deliveries if days]
    entry = _entry(key_of(name), zones)
    if left:
        storage.write_note(entry, json.dumps({"name": name, "deliveries": left}).encode())
    else:
        storage.drop_note(entry)


def add(storage: Storage, name: str, zones: Zones, days: Collection[date]) -> None:
    """Note a delivery, which takes its dates from earlier ones of the name."""
    _, earlier = read(storage, key_of(name), zones)
    write(storage, name, zones, [*_without(earlier, days), sorted(days)])


def withdraw(storage: Storage, name: str, day: date) -> None:
    """Note that the file of a date is one delivered as it is."""
    for zones in zones_by_key(storage.notes(FOLDER)).get(key_of(name), ()):
        _, deliveries = read(storage, key_of(name), zones)
        if any(day in delivery for delivery in deliveries):
            write(storage, name, zones, _without(deliveries, [day]))


def _without(deliveries: Deliveries, days: Collection[date]) -> Deliveries:
    return [[day for day in delivery if day not in days] for delivery in deliveries]


def _entry(key: str, zones: Zones) -> str:
    formats = f"formats={','.join(quote(one, safe='') for one in zones.formats)}/" if zones.formats else ""
    return f"{FOLDER}/input={zones.given}/reporting={zones.reporting}/{formats}{key}.json"
