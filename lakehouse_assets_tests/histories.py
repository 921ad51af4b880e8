"""Random histories of a lake: deliveries of every kind, runs, and runs that die; at rest it equals a clean rebuild."""

import json
import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.assets.table import Table, declare, selected
from lakehouse_assets.calendar import days_between
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing.deliver import split
from lakehouse_assets.landing.files import LandingError
from lakehouse_assets.landing.redivision import divide_again
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.planning.planner import ROUTING, Planner
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.catalog import Catalog
from lakehouse_assets_tests.reference import Row, compute

SEED = int(os.environ.get("LAKEHOUSE_SEED", "1"))
FIRST = date(2024, 2, 27)  # over a leap day and the end of a month
DAYS = 7


class Died(Exception):
    """The run was killed."""


@dataclass
class PlainLake:
    """A lake whose planner and landing zone are the real ones and whose tables are computed in plain Python."""

    zone: LandingZone
    settings: Settings
    rows: dict[str, dict[date, list[Row]]] = field(default_factory=dict)
    recorded: dict[str, dict[date, str]] = field(default_factory=dict)
    tables: dict[str, Table] = field(init=False)
    publications: int = 0

    def __post_init__(self) -> None:
        self.under(self.settings)

    def under(self, settings: Settings) -> None:
        """Go on with other settings."""
        self.settings, self.tables = settings, dict(selected(declare(settings), settings.tables))
        catalog = cast("Catalog", SimpleNamespace(stamps=lambda name: self.recorded.get(name, {}), load=self._load))
        self.stamps = Planner(self.settings, self.tables, catalog, self.zone)

    def _load(self, name: str) -> Any:
        """A table as the planner looks at it: its stamps, and for the routing table its rows."""
        months: dict[str, dict[str, str]] = {}
        for day, stamp in self.recorded.get(name, {}).items():
            months.setdefault(f"lakehouse.stamps.{day:%Y-%m}", {})[f"{day:%d}"] = stamp
        routed = [row for row in self.read(ROUTING, date.min, date.max) if row["event_date"]]
        schema = pa.schema([("landing_date", pa.date32()), ("event_date", pa.date32())])
        scanned = pa.Table.from_pylist([{n: row[n] for n in schema.names} for row in routed], schema)
        return SimpleNamespace(
            metadata_location=str(routed),  # another one for other rows
            properties={month: json.dumps(stamps) for month, stamps in months.items()},
            scan=lambda **_: SimpleNamespace(to_arrow=lambda: scanned),
        )

    def read(self, name: str, first: date, last: date) -> list[Row]:
        """The rows of a table as published."""
        return [row for day, rows in self.rows.get(name, {}).items() if first <= day <= last for row in rows]

    def run(self, die_after: int | None = None) -> int:
        """Plan and publish as `automation.runner` does, dying after so many publications; how many there were."""
        done = 0
        divide_again(self.zone, self.settings, lambda _: None)
        landed = self.zone.listings()
        for stale in self.stamps.phases(landed):
            for work in self.stamps.work(stale, known=stale):
                for name in work.tables:
                    if done == die_after:
                        raise Died
                    self.publish(name, work.first, work.last)
                    done += 1
        return done

    def publish(self, name: str, first: date, last: date) -> None:
        """Compute days of a table."""
        days = days_between(first, last)
        stamps = self.stamps.expected(name, days)
        published, recorded = self.rows.setdefault(name, {}), self.recorded.setdefault(name, {})
        for day in days:  # one after the other, as a table may read its own earlier days
            rows = compute(name, day, self.read, self.zone, self.settings)
            published.pop(day, None)
            recorded.pop(day, None)
            if day in stamps:  # any other is none of the lake's days
                published[day] = rows
        recorded.update(stamps)
        self.publications += 1


def rebuilt(
    tables: dict[str, Table], zone: LandingZone, settings: Settings, days: Callable[[str], list[date]]
) -> dict[str, dict[date, list[Row]]]:
    """Every table computed once from what is landed, for the given days of each."""
    made: dict[str, dict[date, list[Row]]] = {}

    def read(name: str, first: date, last: date) -> list[Row]:
        return [row for day, rows in made[name].items() if first <= day <= last for row in rows]

    for name in tables:
        made[name] = {}  # a table may read its own earlier days
        for day in sorted(days(name)):
            made[name][day] = compute(name, day, read, zone, settings)
    return made


def comparable(rows: list[Row]) -> list[str]:
    """Rows without order, instants in UTC, and numbers to the precision every engine agrees on."""
    return sorted(str(sorted((column, _plain(value)) for column, value in row.items())) for row in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return round(value, 6) if isinstance(value, float) else value


def differences(lakehouse: Lakehouse) -> list[str]:
    """Tables of a lake whose published rows are not those of a clean rebuild, in the columns of docs/metrics."""
    recorded = {name: sorted(lakehouse.catalog.stamps(name)) for name in lakehouse.tables}
    clean = rebuilt(dict(lakehouse.tables), lakehouse.zone, lakehouse.settings, recorded.__getitem__)
    return [name for name in lakehouse.tables if published(lakehouse, name, clean[name]) != _of(clean[name])]


def published(lakehouse: Lakehouse, name: str, like: dict[date, list[Row]]) -> list[str]:
    """A table's rows as readers see them, in the columns that the plain engine gives."""
    columns = next((list(row) for rows in like.values() for row in rows), [])
    table = lakehouse.catalog.load(name)
    rows = table.scan().to_arrow().to_pylist() if table else []
    return comparable([{column: row[column] for column in columns} for row in rows])


def _of(by_day: dict[date, list[Row]]) -> list[str]:
    return comparable([row for rows in by_day.values() for row in rows])


class Deliveries:
    """What may happen to a landing zone; rows come from few values so that they meet."""

    def __init__(self, zone: LandingZone) -> None:
        self.zone = zone

    def interactions(self, offset: int, name: str, seed: int) -> None:
        """A file delivered as it is."""
        chance = random.Random(seed)
        day = FIRST + timedelta(days=offset)
        self._write("interactions", day, name, self._rows(chance, day, chance.randint(0, 6)))

    def land(self, settings: Settings, name: str, seed: int) -> None:
        """A file of several days, which is divided by them."""
        chance = random.Random(seed)
        days = chance.sample(range(DAYS), 3)
        rows = [row for offset in days for row in self._rows(chance, FIRST + timedelta(days=offset), 4)]
        source = self.zone.root.parent / name
        source.write_text("\n".join([",".join(DATASETS["interactions"]), *rows]) + "\n")
        given, reporting = settings.input_zone, settings.reporting_zone
        with suppress(LandingError):  # no row has a day
            split(self.zone, source, {}, input_zone=given, reporting_zone=reporting, replace=True)

    def _rows(self, chance: random.Random, day: date, count: int) -> list[str]:
        rows = []
        for _ in range(count):
            happened = day - timedelta(days=chance.choice([0, 0, 0, 0, 1, 2, 3, 4, -1]))
            minute = chance.choice([0, 1, 29, 30, 31, 90])
            hour = chance.choice([0, 10, 10, 10, 23])
            start = datetime(happened.year, happened.month, happened.day, hour, tzinfo=UTC)
            zone = chance.choice(["", "", "", "Z", "+05:30", "-10"])
            when = f"{start + timedelta(minutes=minute):%Y-%m-%d %H:%M:%S}{zone}"
            timestamp = chance.choice([when] * 9 + ["soon"])
            action = chance.choice(["edit", "edit", "share", "hack"])
            page, duration = chance.choice(["", "p"]), chance.choice([-1, 0, 5, 9, 7_200_001])
            rows.append(f"{chance.choice('abc')},{timestamp},{action},{page},{duration},{chance.choice(['1', '2'])}")
        return rows

    def users(self, offset: int, seed: int) -> None:
        chance = random.Random(seed)
        rows = []
        for _ in range(chance.randint(0, 4)):
            joined = chance.choice(
                [f"2024-01-0{chance.randint(1, 9)}", "2024-01-05 10:00:00", "2024-01-32", "soon", ""]
            )
            rows.append(f"{chance.choice(['a', 'b', ''])},{joined},{chance.choice(['DE', 'FR'])},web,free")
        self._write("users", FIRST + timedelta(days=offset), "u.csv", rows)

    def remove(self, chosen: int, *, whole_date: bool) -> None:
        files = self.files()
        if not files:
            return
        path = files[chosen % len(files)]
        path.unlink()
        if whole_date:
            for other in path.parent.iterdir():
                other.unlink()
            path.parent.rmdir()

    def rename(self, chosen: int) -> None:
        """The same content under a new name."""
        files = self.files()
        if files:
            path = files[chosen % len(files)]
            path.rename(path.with_name(f"renamed-{path.name[-8:]}"))

    def files(self) -> list[Any]:
        return sorted(self.zone.root.glob("interactions/date=*/*.csv"))

    def _write(self, dataset: str, day: date, name: str, rows: list[str]) -> None:
        folder = self.zone.folder(dataset, day)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{name}.tmp"
        temporary.write_text("\n".join([",".join(DATASETS[dataset]), *rows]) + "\n")
        temporary.replace(folder / name)
