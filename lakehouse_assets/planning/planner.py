"""What each day of each table was computed from, and so which days are stale.

A stamp is a short hash of everything a day's content follows from: the delivered files' fingerprints for bronze, the
stamps of the input days for the rest, and the settings and code version of the table. (A day of a table that reads
itself is hashed with the stamp of the day before, so a change of an early day reaches every later one.) It is published
in the same commit as the data it vouches for. A day is up to date when its recorded stamp is the expected one; nothing
else - no time, no order of runs - decides.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from itertools import chain
from json.encoder import encode_basestring_ascii
from urllib.parse import quote, unquote

from pyiceberg.table import Table as IcebergTable

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.assets.table import Input, Table, settings_of
from lakehouse_assets.calendar import ALL_DAYS, DAY, as_of, at_most, days_between, stretches
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.landing.files import LandedFile, LandingError
from lakehouse_assets.landing.text_files import FileRefused
from lakehouse_assets.landing.zone import LandingZone, Listings
from lakehouse_assets.planning.shared_runs import grouped
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.catalog import Catalog, kept_from, read_settings, read_stamps

Recorded = Callable[[str], Mapping[date, str]]  # the stamps of a table
Loaded = Callable[[str], IcebergTable | None]  # a table
Routes = Callable[[], Mapping[date, set[date]]]  # event dates that rows of each landing date belong to
Stale = dict[str, dict[date, str]]  # days of each table that are to be computed, and why
Days = dict[str, list[date]]  # days of the lake, by the calendar of tables
Spans = Mapping[str, tuple[date, date]]  # first and last day of each table
_FILES_NAMED = 20  # in a stamp
_FILES_TOLD = 3
ROUTING = "silver.interaction_routing"


class RangeError(LakehouseError):
    """Days that the lakehouse does not have; the message names those that it has."""


class DroppedDays(LakehouseError):
    """Days that can't be computed again, because cleanup dropped them or days that they look back on."""


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


@dataclass(frozen=True)
class Origin:
    """A stale day of a table whose inputs are all up to date, and why it is stale."""

    table: str
    day: date
    why: str

    def __str__(self) -> str:
        return f"{self.table} {self.day}: {self.why}"


@dataclass(frozen=True)
class Following:
    """Days of a table that depend on failed days of the table ``source``."""

    days: frozenset[date]
    source: str


class OneLook:
    """Stamps and routes of the tables at one moment: each is loaded at its first use and kept.

    Attributes:
        expected: by table, the stamps of days that were found to follow from these.
    """

    def __init__(self, load: Loaded, routes: Routes) -> None:
        self.load, self.routes, self.stamps = cache(load), cache(routes), cache(self._stamps)
        self.expected: dict[str, dict[date, str]] = {}

    def _stamps(self, name: str) -> Mapping[date, str]:
        table = self.load(name)
        return read_stamps(table) if table else {}


class Planner:
    """Expected and recorded stamps of one lakehouse."""

    def __init__(self, settings: Settings, tables: Mapping[str, Table], catalog: Catalog, zone: LandingZone) -> None:
        self._settings = settings
        self._tables = tables
        self._catalog = catalog
        self._zone = zone
        self._routed: tuple[str, Mapping[date, set[date]]] = ("", {})  # where the table's metadata is, and its routes

    def expected(self, name: str, days: Iterable[date]) -> dict[date, str]:
        """The stamp each day of a table gets when it is computed from its inputs as they are recorded now.

        A day that the lakehouse does not have (`_calendar`) gets no stamp, and no rows.

        Raises:
            DroppedDays: one of the days can't be computed any more.
        """
        days, tables = list(days), self.one_look()
        self._check_not_dropped([name], min(days), tables.load)
        return self._expected(name, self._days_of_the_lake(name, days), tables.stamps, tables.routes)

    def vouching(self, name: str, days: Iterable[date]) -> dict[date, str]:
        """The stamp that each day of a table would get if it were computed from its recorded inputs now."""
        return self._expected(name, sorted(days), cache(self._catalog.stamps), cache(self._routes))

    def unvouched(self, name: str, among: Collection[date] | None = None) -> frozenset[date]:
        """The recorded days of a table that were computed from other inputs than those that are recorded now.

        Args:
            name: ``layer.table``.
            among: the days to look at, which keeps those of a table that reads itself apart from what is stale before
                them; default all.
        """
        recorded = {day: stamp for day, stamp in self._catalog.stamps(name).items() if among is None or day in among}
        vouching = self.vouching(name, recorded)
        return frozenset(day for day, stamp in recorded.items() if vouching[day] != stamp)

    def of_contents(self, name: str, contents: Iterable[tuple[str, str]]) -> str:
        """The stamp of a landing date whose files have these names and fingerprints, in the order of their names."""
        contents = list(contents)
        named = ",".join(f"{quote(file)}={_hash(content)[:8]}" for file, content in contents[:_FILES_NAMED])
        return f"{_hash(self._tables[name].version, contents)} {named}".rstrip()

    def check_not_dropped(self, names: Iterable[str], first: date) -> None:
        """Refuse days of tables whose inputs cleanup has dropped.

        Raises:
            DroppedDays: says from which day on they can be computed.
        """
        self._check_not_dropped(names, first, self._catalog.load)

    def _check_not_dropped(self, names: Iterable[str], first: date, loaded: Loaded) -> None:
        earliest, name = max((self._first_day(name, loaded), name) for name in names)
        if first < earliest:
            raise DroppedDays(
                f"{name} {first} can't be computed again: cleanup dropped this day or days that it looks back on; "
                f"begin at {earliest} or later"
            )

    def check_range(self, first: date, last: date) -> None:
        """Refuse days that the lakehouse does not have: before its first, not over yet, or after a gap.

        A lake begins with what is landed first and ends with what is landed last, or with a later day that was computed
        when it was over and had no file.

        Raises:
            RangeError: says which days there are.
        """
        landed = {dataset: dict.fromkeys(self._zone.dates(dataset), ()) for dataset in DATASETS}
        recorded = self._catalog.stamps
        calendar = self._calendar(landed, recorded, self._routes)["events"]
        days = _span({*calendar, *recorded("bronze.interactions"), *recorded("silver.interactions")})
        if not days:
            raise RangeError("no interactions are landed yet; land a file with `lakehouse land interactions FILE`")
        over = max(days[-1], datetime.now(tz=self._settings.reporting_zone).date() - DAY)
        if first < days[0]:
            raise RangeError(f"{first} is before {days[0]}, the first day of what is landed; begin there, or land more")
        if first > days[-1] + DAY:
            raise RangeError(
                f"{first} is after {days[-1]}, the last day that is landed or computed; begin at {days[-1] + DAY}, so "
                "that no day is left out"
            )
        if last > over:
            raise RangeError(f"{last} has no file and is not over; end at {over}, or land its file")

    def first_day(self, name: str) -> date:
        """The first day of a table that can be computed."""
        return self._first_day(name, self._catalog.load)

    def one_look(self) -> OneLook:
        """The tables as they are at their first use."""
        return OneLook(self._catalog.load, self._routes)

    def stale(self, landed: Listings, spans: Spans | None = None, tables: OneLook | None = None) -> Stale:
        """Days of each table whose recorded stamp is not the expected one, or whose inputs are stale, and why.

        Args:
            landed: files per landing date of each dataset.
            spans: the tables to look at, and the first and last day of each; what they are computed from is taken for
                up to date where it is not among them. Default every table and day.
            tables: the tables as they are; default as they are now.

        Raises:
            LandingError: the landing zone is not there any more, as when a disk is not mounted.
        """
        spans = dict.fromkeys(self._tables, ALL_DAYS) if spans is None else spans
        tables = tables or self.one_look()
        for dataset in DATASETS:
            if tables.stamps(f"bronze.{dataset}") and not landed[dataset] and not self._zone.storage.has(dataset):
                raise LandingError(
                    f"{self._zone.root / dataset} is missing, though days were computed from its files. Mount it, or "
                    "create the empty folder if you deleted every file on purpose"
                )
        calendar = self._calendar(landed, tables.stamps, tables.routes)
        stale: dict[str, dict[date, str]] = {}
        for name, table in self._tables.items():
            if name not in spans:
                continue
            first, last = spans[name]
            first = max(first, self._first_day(name, tables.load), self._first_planned(name))
            days = [day for day in calendar[self._tables[name].calendar] if first <= day <= last]
            recorded = tables.stamps(name)
            gone = {day for day in recorded if first <= day <= last}.difference(days)
            why: dict[date, str] = {}
            for i in reversed(table.inputs):  # the first reason that applies is shown
                why |= dict.fromkeys(_reached(i, stale.get(i.table, {}), days, landed), f"depends on {i.table}")
            expected = self._expected_once(name, [d for d in days if d in recorded], tables, landed)
            differ = {day: stamp for day, stamp in expected.items() if recorded[day] != stamp}
            if differ and table.layer == "bronze":
                why |= {day: _what_changed_of_files(recorded[day], stamp) for day, stamp in differ.items()}
            elif differ:
                why |= dict.fromkeys(differ, _what_changed(table, self._settings, tables.load(name)))
            why |= {day: "not computed yet" for day in days if day not in recorded}
            why |= dict.fromkeys(gone, "no landed row belongs to it any more")
            if table.reads_itself and why:
                why = {day: "depends on its earlier days" for day in days if day > min(why)} | why
            stale[name] = {day: why[day] for day in sorted(gone.union(days)) if day in why}
        return stale

    def phases(self, landed: Listings) -> Iterator[Stale]:
        """Stale days in two phases: first of tables that depend on landed files only, then of the rest.

        Args:
            landed: files per landing date of each dataset.
        """
        for from_files in (True, False):
            names = [name for name, table in self._tables.items() if (table.calendar != "events") == from_files]
            yield self.stale(landed, dict.fromkeys(names, ALL_DAYS))

    def waiting_for(
        self, name: str, first: date, last: date, landed: Listings, tables: OneLook | None = None
    ) -> dict[date, Origin]:
        """Days of a table whose rows are not final, and what each waits for.

        A day is final when it and every day that it is computed from, up to the delivered files, is up to date.

        Args:
            name: ``layer.table``.
            first: first day to look at.
            last: last day.
            landed: files per landing date of each dataset.
            tables: the tables as they are; default as they are now.
        """
        stale = self.stale_for(name, first, last, landed, tables)
        return {day: self._origin(name, day, stale, landed) for day in stale[name]}

    def stale_for(self, name: str, first: date, last: date, landed: Listings, tables: OneLook | None = None) -> Stale:
        """Stale days of a table, and those of others that they follow from; arguments as of `waiting_for`."""
        return self.stale(landed, self._looked_back_on(name, first, last), tables)

    def _looked_back_on(self, name: str, first: date, last: date) -> Spans:
        """A table and all it is computed from, and the days of each that the table's days follow from."""
        spans = {name: (first, last)}
        for table in reversed(list(self._tables.values())):
            if table.name not in spans:
                continue
            # its own earlier days first, as these look back further
            for i in sorted(table.inputs, key=lambda i: i.table != table.name):
                low, high = ALL_DAYS if i.as_of else i.span_read(*spans[table.name])
                before = spans.get(i.table, (low, high))
                spans[i.table] = (min(low, before[0]), max(high, before[1]))
        return spans

    def _origin(self, name: str, day: date, stale: Stale, landed: Listings) -> Origin:
        """What a stale day waits for: a stale day whose inputs are up to date."""
        for i in sorted(self._tables[name].inputs, key=lambda i: i.table == name):  # its own earlier days last
            above, (low, high) = stale.get(i.table, {}), i.span_read(day, day)
            if i.as_of:
                low = high = as_of(day, _delivered_users(landed) or [day])
            if read := [other for other in above if low <= other <= high]:
                return self._origin(i.table, min(read), stale, landed)
        return Origin(name, day, stale[name][day])

    def refused(self, stale: Stale, landed: Listings) -> dict[date, str]:
        """Stale landing dates with a file that can't be read, and what is wrong with it.

        Who leaves them out keeps no other day waiting; each keeps the rows it had. New files are read for it, once.
        """
        found = {}
        for dataset in DATASETS:
            delivered = {day: landed[dataset].get(day, ()) for day in stale.get(f"bronze.{dataset}", ())}
            self._zone.inspect_all(dataset, chain.from_iterable(delivered.values()))
            for day, files in delivered.items():
                try:
                    for file in files:
                        self._zone.inspect(dataset, file)
                except FileRefused as error:
                    found[day] = str(error)
        return found

    def range_work(self, first: date, last: date) -> list[Work]:
        """Every table for the days ``first`` … ``last``, those of users only between their first and last file."""
        users = [day for day in self._users_days() if first <= day <= last]
        of_users = tuple(name for name in self._tables if self._tables[name].calendar == "users")
        others = tuple(name for name in self._tables if name not in of_users)
        if not users:
            return [Work(others, first, last)]
        if (users[0], users[-1]) == (first, last):
            return [Work(tuple(self._tables), first, last)]
        return [Work(of_users, users[0], users[-1]), Work(others, first, last)]

    def ready(self, work: Sequence[Work]) -> list[Work]:
        """Runs of a phase that need no other run of it to have ended."""
        ready = []
        for position, one in enumerate(work):
            inputs = {i.table for name in one.tables for i in self._tables[name].inputs}
            if not any(inputs & set(other.tables) - set(one.tables) for other in work[:position]):
                ready.append(one)
        return ready

    def keys(self, work: Iterable[Work]) -> dict[str, Work]:
        """Runs by a stable id, made from what each computes and the snapshots it replaces."""
        recorded, routes, snapshot_id = (
            cache(self._catalog.stamps),
            cache(self._routes),
            cache(self._catalog.snapshot_id),
        )
        keys = {}
        for one in work:
            parts = []
            for name in one.tables:
                expected = self._expected(name, days_between(one.first, one.last), recorded, routes)
                stamps = {day.isoformat(): stamp for day, stamp in expected.items()}
                parts.append([name, snapshot_id(name), stamps])
            keys[_hash(one.first, one.last, parts)] = one
        return keys

    def aims(self, work: Iterable[Work]) -> list[dict[str, str]]:
        """For each run and table: a hash of the stamps its days should have after the run."""
        recorded, routes = cache(self._catalog.stamps), cache(self._routes)
        aims = []
        for one in work:
            coming: dict[str, Mapping[date, str]] = {}

            def known(name: str, coming: Mapping[str, Mapping[date, str]] = coming) -> Mapping[date, str]:
                return {**recorded(name), **coming.get(name, {})}

            for name in one.tables:
                coming[name] = self._expected(name, days_between(one.first, one.last), known, routes)
            aims.append({name: _hash([*stamps.items()]) for name, stamps in coming.items()})
        return aims

    def before(self, work: Iterable[Work]) -> list[dict[str, str]]:
        """For each run and table: a hash of the stamps its days have now."""
        recorded = cache(self._catalog.stamps)
        return [
            {name: _hash([recorded(name).get(day) for day in days_between(one.first, one.last)]) for name in one.tables}
            for one in work
        ]

    def following(self, failed: Mapping[str, Collection[date]], landed: Listings) -> dict[str, Following]:
        """Days of tables that must not be computed, because they depend on failed days.

        Args:
            failed: days of each table that failed.
            landed: files per landing date of each dataset.
        """
        tables = self.one_look()
        calendar = self._calendar(landed, tables.stamps, tables.routes)
        every = {day for days in (*calendar.values(), *failed.values()) for day in days}
        days = _span(every)
        found: dict[str, Following] = {}
        for name, table in self._tables.items():
            own: set[date] = set()
            source = ""
            for i in table.inputs:
                above = found.get(i.table)
                missing = {*failed.get(i.table, ()), *(above.days if above else ()), *(own if i.table == name else ())}
                follow = {*_reached(i, missing, days, landed)}
                if follow and not source:
                    source = above.source if above and i.table not in failed else i.table
                own |= follow
            own.difference_update(failed.get(name, ()))
            if own:
                found[name] = Following(frozenset(own), source)
        return found

    def user_deliveries(self, name: str, first: date, last: date) -> list[date]:
        """Landing dates of users' files that the days go by, as far as a table has them, in order."""
        taken = self._taken(self._catalog.stamps(name))
        return sorted({as_of(day, taken) for day in days_between(first, last)}) if taken else []

    def work(
        self, stale: Mapping[str, Iterable[date]], left: Collection[date] = (), known: Stale | None = None
    ) -> list[Work]:
        """Days of tables as runs, in the order of the tables.

        Args:
            stale: days of each table that are to be computed.
            left: days that no run is to touch.
            known: every stale day of these tables; all others are up to date, and are computed again where that saves
                runs. Default no other days than those of ``stale`` are computed.
        """
        wanted = {name: frozenset(days).difference(left) for name, days in stale.items()}
        inputs = {name: {i.table for i in self._tables[name].inputs} for name in wanted}
        up_to_date = {
            name: set(self._catalog.stamps(name)).difference(days, left) for name, days in (known or {}).items()
        }
        return [
            Work(names, *stretch) for names, days in grouped(wanted, inputs, up_to_date) for stretch in stretches(days)
        ]

    def _expected_once(self, name: str, days: Sequence[date], tables: OneLook, landed: Listings) -> dict[date, str]:
        """As `_expected`, which is asked once for each day of a look, unless a day follows from those before it."""
        table = self._tables[name]
        if table.reads_itself:
            return self._expected(name, days, tables.stamps, tables.routes)
        known = tables.expected.setdefault(name, {})
        new = [day for day in days if day not in known]
        if table.landed:  # of the look at all files: a bucket takes as long for that as for one day
            files = landed[table.landed]
            known |= {day: self._of_files(table, files.get(day, ())) for day in new}
        else:
            known |= self._expected(name, new, tables.stamps, tables.routes)
        return {day: known[day] for day in days}

    def _expected(self, name: str, days: Iterable[date], recorded: Recorded, routes: Routes) -> dict[date, str]:
        table = self._tables[name]
        if table.landed:
            return {day: self._of_files(table, self._zone.files(table.landed, day)) for day in days}
        expected: dict[date, str] = {}
        inputs = []
        for i in table.inputs:
            stamps = recorded(i.table)
            # a day of a table that reads itself follows from the day before as that will be
            known = ChainMap(expected, dict(stamps)) if i.table == name else stamps
            inputs.append((json.dumps(i.table), known, _Told(known), self._reads(i, stamps, routes)))
        own = _as_json(table.version, settings_of(table, self._settings))[:-1]
        for day in sorted(days):
            parts = [
                f"[{source}, [{', '.join([told[d] for d in reads(day) if d in known])}]]"
                for source, known, told, reads in inputs
            ]
            expected[day] = _digest(f"{own}, [{', '.join(parts)}]]")
        return expected

    def _reads(self, i: Input, stamps: Mapping[date, str], routes: Routes) -> Callable[[date], Sequence[date]]:
        """Which days of an input vouch for what a day is computed from.

        Of other landing dates only those that sent rows to it, so that a delivery leaves the days it says nothing of
        alone; of a table that reads itself one day, the last that is read, which vouches for all before it.
        """
        if i.as_of:
            taken = self._taken(stamps)
            return lambda day: [as_of(day, taken)] if taken else []
        if not i.reads_other_days:
            return lambda day: (day,)
        if self._tables[i.table].reads_itself and i.last_offset <= 0:
            return lambda day: [day + timedelta(i.last_offset)]
        if not stamps:
            return lambda day: []
        if self._tables[i.table].reads_itself:
            last = max(stamps)
            return lambda day: [min(day + timedelta(i.last_offset), last)]
        recorded = sorted(stamps)

        def within(day: date) -> list[date]:
            low, high = i.span_read(day, day)
            return recorded[bisect_left(recorded, low) : bisect_right(recorded, high)]

        if self._tables[i.table].partition_column == "landing_date":
            sent = routes()
            return lambda day: [sender for sender in within(day) if day in sent.get(sender, ())]
        return within

    def _first_day(self, name: str, loaded: Loaded) -> date:
        """The first day of a table that can be computed: it and all it looks back on are kept."""
        sources = [(name, 0), *((i.table, i.first_offset) for i in self._tables[name].inputs)]
        kept = [(day, offset) for source, offset in sources if (t := loaded(source)) and (day := kept_from(t))]
        return max((day - timedelta(offset) for day, offset in kept), default=date.min)

    def _of_files(self, table: Table, files: Iterable[LandedFile]) -> str:
        return self.of_contents(table.name, [(file.path.name, self._content_of(file)) for file in files])

    def _content_of(self, file: LandedFile) -> str:
        """A file's fingerprint; of one that can't be read why, so that its day is stale and nobody computes it."""
        try:
            return self._zone.fingerprint(file)
        except FileRefused as error:
            return str(error)

    def _first_planned(self, name: str) -> date:
        """The first day of a table that a run takes up: what was computed before it stays."""
        first = self._settings.start_date
        return first - timedelta(self._settings.late_days) if self._tables[name].calendar == "events" else first

    def _calendar(self, landed: Mapping[str, Collection[date]], recorded: Recorded, routes: Routes) -> Days:
        """The days of the lake: from the first to the last landing date, of users and of interactions.

        Events may belong to days before the first delivery, and by the time zone alone to the day after the last one,
        so their days may begin earlier and end later. After the last landing date those count too that were computed
        when they were over and had no file. A day at either end whose files are gone with their folder is none any
        more, nor are its events' days: a lake made anew from what is landed would not have them.
        """
        first = self._settings.start_date
        users = _span({day for day in {*landed["users"], *recorded("bronze.users")} if day >= first})
        delivered, computed = {day for day in landed["interactions"] if day >= first}, recorded("bronze.interactions")
        if delivered:
            last, without_file = max(delivered), self._of_no_files()
            delivered.update(day for day, stamp in computed.items() if day > last and stamp in without_file)
            delivered.update(day for day in computed if day < first)
        delivered = delivered or set(computed)  # with nothing landed at all, nothing is dropped
        routed = {day for days in routes().values() for day in days} if delivered else set()
        return {"users": users, "landings": _span(delivered), "events": _span(delivered | routed)}

    def _days_of_the_lake(self, name: str, days: Sequence[date]) -> list[date]:
        """Those of the days to be computed that the lake has or gets by that."""
        landed = {dataset: self._zone.dates(dataset) for dataset in DATASETS}
        kind, between = self._tables[name].calendar, landed["interactions"]
        if kind != "users" and between and between[0] <= min(days) and max(days) <= between[-1]:
            return list(days)
        recorded = cache(self._catalog.stamps)
        kept = set(self._calendar(landed, recorded, self._routes)[kind])
        if name == "bronze.interactions":  # what it is asked for and has no files becomes a day without a file
            kept.update(day for day in days if day not in recorded(name))
        return [day for day in days if day in kept]

    def _of_no_files(self) -> set[str]:
        """The stamps of a landing date without a file, by this version of bronze and by earlier ones."""
        bronze = self._tables.get("bronze.interactions")  # a lakehouse with users only has none
        return {_hash(version, []) for version in range(1, bronze.version + 1)} if bronze else set()

    def _taken(self, recorded: Mapping[date, str]) -> list[date]:
        """Landing dates of users' files among the recorded days, in order."""
        return [day for day in self._zone.dates("users") if day in recorded and self._zone.files("users", day)]

    def _users_days(self) -> list[date]:
        """The days that tables of users have."""
        return _span({*self._zone.dates("users"), *self._catalog.stamps("bronze.users")})

    def _routes(self) -> Mapping[date, set[date]]:
        """Event dates that rows of each landing date belong to; read again when the table has changed."""
        table = self._catalog.load(ROUTING)
        if table is None:
            return {}
        if table.metadata_location == self._routed[0]:
            return self._routed[1]
        rows = table.scan(
            row_filter="event_date is not null", selected_fields=("landing_date", "event_date")
        ).to_arrow()
        routes: dict[date, set[date]] = {}
        for row in rows.to_pylist():
            routes.setdefault(row["landing_date"], set()).add(row["event_date"])
        self._routed = table.metadata_location, routes
        return routes


def without(
    days: Mapping[str, Iterable[date]], failed: Mapping[str, Collection[date]], following: Mapping[str, Following]
) -> dict[str, set[date]]:
    """Days of tables without those that failed or depend on failed ones."""
    return {
        name: set(found).difference(failed.get(name, ()), following[name].days if name in following else ())
        for name, found in days.items()
    }


def _span(delivered: Collection[date]) -> list[date]:
    """Landing dates of users and the days between them, as each day of the users follows from the day before.

    Those are included whose files are gone and rows still there.
    """
    return days_between(min(delivered), max(delivered)) if delivered else []


def _delivered_users(landed: Listings) -> list[date]:
    return sorted(day for day, files in landed["users"].items() if files)


def _reached(i: Input, stale: Collection[date], days: Sequence[date], landed: Listings) -> Iterable[date]:
    """The days that read a stale day of an input."""
    if not stale or not days:
        return ()
    if i.as_of:
        delivered = _delivered_users(landed)
        return (day for day in days if delivered and as_of(day, delivered) in stale)
    return (day for stretch in stretches(stale) for day in i.days_reached(stretch, days[0], days[-1]))


def _what_changed_of_files(recorded: str, expected: str) -> str:
    """Which files of a landing date are new, changed or gone, as far as its stamps name them."""
    before, now = (
        dict(part.split("=") for part in stamp.partition(" ")[2].split(",") if part) for stamp in (recorded, expected)
    )
    told = dict.fromkeys(now.keys() - before.keys(), "is new") | dict.fromkeys(before.keys() - now.keys(), "is gone")
    told |= {name: "changed" for name in now.keys() & before.keys() if now[name] != before[name]}
    named = [f"{unquote(name)} {what}" for name, what in sorted(told.items())]
    return ", ".join(at_most(named, _FILES_TOLD)) if named and " " in recorded else "its files changed"


def _what_changed(table: Table, settings: Settings, loaded: IcebergTable | None) -> str:
    """Which settings a table was last computed with that have another value now; else what it is computed from."""
    before = read_settings(loaded) if loaded else {}
    now = json.loads(json.dumps(settings_of(table, settings), default=str))
    changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)] if before else []
    if changed:
        return f"{', '.join(changed)} changed"
    return f"{' or '.join(dict.fromkeys(i.table for i in table.inputs))} changed, or a setting for some of its days"


class _Told(dict[date, str]):
    """Days and their stamps as JSON writes them, each written once: many days read the same ones."""

    def __init__(self, stamps: Mapping[date, str]) -> None:
        super().__init__()
        self._stamps = stamps

    def __missing__(self, day: date) -> str:
        self[day] = text = f'["{day}", {encode_basestring_ascii(self._stamps[day])}]'
        return text


def _hash(*parts: object) -> str:
    return _digest(_as_json(*parts))


def _as_json(*parts: object) -> str:
    return json.dumps(parts, sort_keys=True, default=str)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
