"""What each day of each table was computed from, and so which days are stale.

A stamp is a short hash of everything a day's content follows from: the delivered files' fingerprints for bronze, the
stamps of the input days for the rest, and the settings and code version of the table. It is published in the same
commit as the data it vouches for. A day is up to date when its recorded stamp is the expected one; nothing else - no
time, no order of runs - decides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

from lakehouse_assets.io.catalog import Catalog
from lakehouse_assets.io.landing import LandingZone, Looks
from lakehouse_assets.partitions import days_between, stretches
from lakehouse_assets.settings import Settings
from lakehouse_assets.tables import Input, Table, settings_of

Recorded = Callable[[str], Mapping[date, str]]  # the stamps of a table
Routes = Callable[[], Mapping[date, set[date]]]  # event dates that each landing date sent rows to
ROUTING = "silver.interaction_routing"
# What can be known before a delivery is read, and what only after.
FROM_FILES = (
    "bronze.interactions",
    "silver.rejected_interactions",
    "silver.interaction_routing",
    "bronze.users",
    "silver.users",
)


@dataclass(frozen=True)
class Work:
    """Tables to compute for a stretch of days in one run."""

    tables: tuple[str, ...]
    first: date
    last: date

    @property
    def days(self) -> int:
        """Number of days."""
        return (self.last - self.first).days + 1


class Stamps:
    """Expected and recorded stamps of one lakehouse."""

    def __init__(self, settings: Settings, tables: Mapping[str, Table], catalog: Catalog, zone: LandingZone) -> None:
        self._settings = settings
        self._tables = tables
        self._catalog = catalog
        self._zone = zone

    def expected(self, name: str, days: Iterable[date]) -> dict[date, str]:
        """The stamp each day of a table gets when it is computed from its inputs as they are recorded now."""
        return self._expected(name, days, self._catalog.stamps, self._routes)

    def stale(self, landed: Looks, *, from_files: bool | None = None) -> dict[str, set[date]]:
        """Days of each table whose recorded stamp is not the expected one, or whose inputs are stale.

        Args:
            landed: files per landing date of each dataset.
            from_files: only look at the tables that depend on nothing but what is delivered, or only at the others.
        """
        recorded_stamps, routes = cache(self._catalog.stamps), cache(self._routes)  # one look at each table
        calendar = _calendar(landed, recorded_stamps, routes)
        stale: dict[str, set[date]] = {}
        for name, table in self._tables.items():
            if from_files is not None and (name in FROM_FILES) != from_files:
                continue
            days = calendar[_calendar_of(name)]
            recorded = recorded_stamps(name)
            new = {day for day in days if day not in recorded}
            expected = self._expected(name, [d for d in days if d in recorded], recorded_stamps, routes)
            changed = {day for day, stamp in expected.items() if recorded[day] != stamp}
            through_inputs = {day for i in table.inputs for day in _reached(stale.get(i.table, set()), i)}
            stale[name] = new | changed | (through_inputs & set(days))
        return stale

    def work(self, stale: Mapping[str, set[date]]) -> list[Work]:
        """Stale days as runs: tables with the same days share one, in the order of the tables."""
        groups: list[tuple[list[str], set[date]]] = []
        for name, days in stale.items():
            if not days:
                continue
            # a table may join an earlier run only if none of its inputs comes later
            feeding = [
                i for i, (names, _) in enumerate(groups) if {x.table for x in self._tables[name].inputs} & set(names)
            ]
            for position in range(max(feeding, default=0), len(groups)):
                if groups[position][1] == days:
                    groups[position][0].append(name)
                    break
            else:
                groups.append(([name], days))
        return [Work(tuple(names), *stretch) for names, days in groups for stretch in stretches(days)]

    def _expected(self, name: str, days: Iterable[date], recorded: Recorded, routes: Routes) -> dict[date, str]:
        table = self._tables[name]
        if table.layer == "bronze":
            return {day: self._of_files(table, day) for day in days}
        inputs = {i.table: recorded(i.table) for i in table.inputs}
        looks_ahead = any(i.last_offset > 0 for i in table.inputs)
        sent = routes() if looks_ahead else {}
        return {day: self._of_inputs(table, day, inputs, sent) for day in days}

    def _of_files(self, table: Table, day: date) -> str:
        dataset = table.name.split(".")[1]
        files = self._zone.files(dataset, day)
        return _hash(table.version, [(file.path.name, self._zone.fingerprint(file)) for file in files])

    def _of_inputs(
        self,
        table: Table,
        day: date,
        inputs: Mapping[str, Mapping[date, str]],
        routes: Mapping[date, set[date]],
    ) -> str:
        """What a day is computed from; of later landing dates only those that sent rows to it.

        So a delivery leaves the days it says nothing of alone.
        """
        parts = []
        for i in table.inputs:
            recorded = inputs[i.table]
            window = days_between(day + timedelta(i.first_offset), day + timedelta(i.last_offset))
            if i.last_offset > 0:
                window = [sender for sender in window if day in routes.get(sender, ())]
            parts.append([i.table, [[d.isoformat(), recorded[d]] for d in window if d in recorded]])
        return _hash(table.version, settings_of(table, self._settings), parts)

    def _routes(self) -> dict[date, set[date]]:
        """Event dates that each landing date sent rows to."""
        table = self._catalog.load(ROUTING)
        if table is None:
            return {}
        rows = table.scan(
            row_filter="event_date is not null", selected_fields=("landing_date", "event_date")
        ).to_arrow()
        routes: dict[date, set[date]] = {}
        for row in rows.to_pylist():
            routes.setdefault(row["landing_date"], set()).add(row["event_date"])
        return routes


def _calendar(landed: Looks, recorded: Recorded, routes: Routes) -> dict[str, list[date]]:
    """Days with a place in the lake: landing dates of users, and from the first to the last of interactions.

    Events may belong to days before the first delivery, so their days may begin earlier; days computed once stay, so
    that they become empty when the delivery that had them is taken away.
    """
    users = set(landed["users"]) | set(recorded("bronze.users"))
    delivered = set(landed["interactions"]) | set(recorded("bronze.interactions"))
    if not delivered:
        return {"users": sorted(users), "landings": [], "events": []}
    routed = {day for days in routes().values() for day in days}
    last = max(delivered)
    return {
        "users": sorted(users),
        "landings": days_between(min(delivered), last),
        "events": days_between(min(delivered | routed | set(recorded("silver.interactions"))), last),
    }


def _calendar_of(name: str) -> str:
    if name.endswith(".users"):
        return "users"
    return "landings" if name in FROM_FILES else "events"


def _reached(days: Iterable[date], through: Input) -> set[date]:
    """Days of a table that read any of the given days of an input."""
    return {day - timedelta(offset) for day in days for offset in range(through.first_offset, through.last_offset + 1)}


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
