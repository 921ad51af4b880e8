"""Forgetting users: every row of theirs, wherever a lakehouse keeps one (docs/privacy.md).

In this order, each step such that one that died in the middle is made good by running it again: tables of deliveries
with the stamps that their files will have, the files, the tables below with the stamps that follow, old snapshots,
records. Meanwhile nobody publishes (`storage.forgetting`).
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse_assets.calendar import some
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing import erasing as landed
from lakehouse_assets.landing.erasing import Rewriting
from lakehouse_assets.orchestration.dagster_internals import NOT_FINISHED_STATUSES
from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.orchestration.records import redact_records
from lakehouse_assets.people import People
from lakehouse_assets.storage import erasing as stored
from lakehouse_assets.storage import forgetting
from lakehouse_assets.storage.forgetting import ErasureUnfinished, Journal

RECORD = "forgotten.jsonl"
_BRONZE = "bronze."

Say = Callable[[str], None]


@dataclass(frozen=True)
class Forgotten:
    """What an erasure did; the record of it, which names nobody.

    Attributes:
        ended: when.
        users: how many were to be forgotten.
        rows: rows that were taken out, by table.
        landed_rows: rows that were taken out of landed files.
        landed_files: these files.
        stored_files: data files and manifests that are gone.
        records: records and lines of Dagster's that were changed.
        other_files: profiles and temporary files that were deleted.
        aggregates: ``kept``, or ``recomputed`` where the next runs compute them without the users.
        resumed: whether it went on with one that did not end, whose part is not counted here.
        mentions: rows of other users that name one of them, in landed files; they stay.
        left: what could not be looked into, in a sentence each.
    """

    ended: str
    users: int
    rows: Mapping[str, int]
    landed_rows: int
    landed_files: int
    stored_files: int
    records: int
    other_files: int
    aggregates: str
    resumed: bool
    mentions: int
    left: Sequence[str]


def forget(lakehouse: Lakehouse, people: People, say: Say, *, recompute: bool = False) -> Forgotten:
    """Take every row of some users out of a lakehouse.

    Args:
        lakehouse: the lakehouse.
        people: the users.
        say: told what is done.
        recompute: leave aggregates stale, so that the next run computes them without the users; default they stay.

    Raises:
        ErasureUnfinished: runs are in progress, or another erasure did not end.
    """
    settings = lakehouse.settings
    with forgetting.alone(settings):
        journal = forgetting.begun(settings, people)
        if journal is None:
            lakehouse.divide_again(say)
            journal = forgetting.begin(settings, people, {} if recompute else _unvouched(lakehouse))
        try:
            _check_no_runs(lakehouse)
        except ErasureUnfinished:
            if not journal.resumed:
                forgetting.end(settings)
            raise
        forgotten = _Erasure(lakehouse, people, say, journal, recompute=recompute).carry_out()
        with (settings.home_path / RECORD).open("a", encoding="utf-8") as record:
            record.write(json.dumps(asdict(forgotten)) + "\n")
        forgetting.end(settings)
    return forgotten


def _unvouched(lakehouse: Lakehouse) -> dict[str, frozenset[date]]:
    """Days of each table that are not up to date with their inputs, and are not to seem so afterwards."""
    computed = (name for name, table in lakehouse.tables.items() if table.layer != "bronze")
    return {name: lakehouse.planner.unvouched(name) for name in computed}


def _check_no_runs(lakehouse: Lakehouse) -> None:
    if not lakehouse.settings.dagster_path.exists() and not lakehouse.settings.dagster_postgres_url.get_secret_value():
        return
    with terminal_instance(lakehouse.settings) as instance:
        runs = instance.get_runs_count(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    if runs:
        raise ErasureUnfinished(
            f"{some(runs, 'run')} of Dagster's are queued or in progress; forget users when they have ended"
        )


class _Erasure:
    """The steps of one erasure."""

    def __init__(self, lakehouse: Lakehouse, people: People, say: Say, journal: Journal, *, recompute: bool) -> None:
        self._lakehouse, self._people, self._say, self._journal = lakehouse, people, say, journal
        self._recompute = recompute
        self._catalog, self._zone, self._settings = lakehouse.catalog, lakehouse.zone, lakehouse.settings

    def carry_out(self) -> Forgotten:
        """All steps, in order."""
        there = set(self._catalog.names())
        # those that are declared first, as they follow from each other; then those that the settings leave out
        names = [name for name in self._lakehouse.tables if name in there]
        names += sorted(there.difference(names))
        deliveries = [name for name in names if name.startswith(_BRONZE)]
        planned = landed.plan(self._zone, self._people)
        rows = {
            name: stored.erase(self._catalog, name, self._people, self._of_files(name, planned.rewritings))
            for name in deliveries
        }
        landed.carry_out(self._zone, planned.rewritings)
        self._say(f"landed files: {some(sum(one.rows for one in planned.rewritings), 'row')} taken out")
        for name in names:
            if name not in deliveries:
                rows[name] = stored.erase(self._catalog, name, self._people, self._following(name))
        left = list(planned.unreadable)
        swept = 0
        for name in names:
            table = self._catalog.iceberg.load_table(name)
            if stored.of_users(table):
                self._say(f"{name}: {some(rows[name], 'row')} taken out")
                swept += stored.purge(self._catalog, name)
                if stored.deleted_entries(self._catalog.iceberg.load_table(name)):
                    left.append(
                        f"{name}: its manifests name files that are gone; run `lakehouse maintain`, then this again"
                    )
        hidden = landed.drop_hidden(self._zone, self._people)
        records = redact_records(self._settings, self._people)
        self._forget_in_index()
        return Forgotten(
            ended=f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M:%S} UTC",
            users=len(self._people.ids),
            rows={name: count for name, count in rows.items() if count},
            landed_rows=sum(one.rows for one in planned.rewritings),
            landed_files=len(planned.rewritings),
            stored_files=swept,
            records=records,
            other_files=hidden + self._drop_profiles(),
            aggregates="recomputed" if self._recompute else "kept",
            resumed=self._journal.resumed,
            mentions=planned.mentions,
            left=[*left, *self._elsewhere()],
        )

    def _of_files(self, name: str, rewritings: Sequence[Rewriting]) -> dict[date, str]:
        """The stamps of landing dates that were up to date, by their files as they will be."""
        if self._recompute or name not in self._lakehouse.tables:
            return {}
        dataset = name.removeprefix(_BRONZE)
        coming = {(one.day, one.file.path.name): one.sha256 for one in rewritings if one.dataset == dataset}
        recorded = self._catalog.stamps(name)
        found = {}
        for day in {day for day, _ in coming}:
            files = [(file.path.name, self._zone.fingerprint(file)) for file in self._zone.files(dataset, day)]
            if recorded.get(day) == self._lakehouse.planner.of_contents(name, files):
                new = [(file, coming.get((day, file), sha256)) for file, sha256 in files]
                found[day] = self._lakehouse.planner.of_contents(name, new)
        return found

    def _following(self, name: str) -> dict[date, str]:
        """The stamps of days that were up to date, by their inputs as they are recorded now."""
        if self._recompute or name not in self._lakehouse.tables:
            return {}
        recorded = self._catalog.stamps(name)
        kept = recorded.keys() - self._journal.unvouched.get(name, frozenset())
        stamps = self._lakehouse.planner.vouching(name, kept)
        return {day: stamp for day, stamp in stamps.items() if recorded[day] != stamp}

    def _forget_in_index(self) -> None:
        """What is remembered of landed files may hold a line of one that was refused."""
        path = self._settings.home_path / "landing-index.json"
        if path.exists():
            text = path.read_text(encoding="utf-8")
            kept = {
                key: value
                for key, value in json.loads(text).items()
                if not self._people.named_in(json.dumps([key, value]))
            }
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.write_text(json.dumps(kept), encoding="utf-8")
            temporary.replace(path)

    def _drop_profiles(self) -> int:
        """Delete profiles that name the users: the sample, and each page that is drawn of it."""
        dropped: set[Path] = set()
        for path in self._settings.profiles_path.rglob("*"):
            if path.suffix == ".parquet" and any(self._people.named_in(str(v)) for v in _values(path)):
                dropped |= {path, *path.parent.glob(f"*{path.stem}*.html")}
            elif path.suffix == ".html" and self._people.named_in(html.unescape(path.read_text(encoding="utf-8"))):
                dropped.add(path)
        for path in dropped:
            path.unlink()
        return len(dropped)

    def _elsewhere(self) -> list[str]:
        """What else lies in the lakehouse's folder, or is read by nobody in the landing zone, and names the users."""
        told = []
        ours = {self._settings.dagster_path, self._settings.profiles_path}
        ours |= {Path(place) for place in (self._settings.warehouse_uri, self._settings.landing_uri)}
        strays = [path for path in self._zone.strays() if isinstance(path, Path)]
        home = [path for path in self._settings.home_path.rglob("*") if not ours.intersection(path.parents)]
        for path in (*home, *strays):
            if path.is_file() and self._people.may_be_in(pa.array([path.read_bytes()], pa.large_binary()))[0].as_py():
                text = html.unescape(path.read_text(encoding="utf-8", errors="replace"))
                if self._people.named_in(text):
                    told.append(f"{path}: names one of them and is no file of the lakehouse's; delete or mend it")
        return told


def _values(path: Path) -> set[object]:
    sample = pq.read_table(path)
    return {
        value
        for name, column in zip(sample.column_names, sample.columns, strict=True)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        for value in column.unique().to_pylist()
    }
