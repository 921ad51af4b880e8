"""Reads tables, and writes them in three steps: stage, audit what is staged, publish in one commit.

Readers of main see the old days or the new ones, never a mix: an engine writes data files that no reader sees, every
rule of the contract is counted on the rows as they pass into them, and only if all hold one commit swaps them in for
the files they replace, together with the stamps that say what the days were computed from.
See docs/decisions/0001-write-audit-publish.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow.parquet as pq
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableUpdate
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.division import DIVIDED, ORDER, PART
from lakehouse_assets.assets.frames import stacked
from lakehouse_assets.assets.table import IN_ITS_PARTITION, NO_DUPLICATE_KEY, Rule, Table, settings_of
from lakehouse_assets.calendar import ALL_DAYS, DAY, Days, days_between, month_first, month_last, some, span_in_words
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.catalog import (
    NO_ANSWER,
    Catalog,
    days_in_file,
    files_overlapping,
    forget_stamps,
    head_of,
    kept_from,
    kind_of,
    set_settings,
    set_stamps,
)
from lakehouse_assets.storage.catalog_errors import CatalogUnreachable
from lakehouse_assets.storage.engine import Engine, Staging
from lakehouse_assets.storage.forgetting import check_none

_PUBLISH_ATTEMPTS = 50
_STRAY = "lakehouse: a row lies outside the days being written"
_ROWS = "rows"
_SAMPLE_ROWS = 5

Stage = Callable[[], Staging]
Record = Callable[[Transaction, IcebergTable], None]  # puts what is known of the days into a commit on a table


class ContractViolation(LakehouseError):
    """Rows about to be published break the table's contract; nothing was published."""


class PublishConflict(LakehouseError):
    """Another run published some of the days meanwhile; compute again from the newer inputs."""


@dataclass(frozen=True)
class Base:
    """A table as it was before its inputs were read: what a publication may replace."""

    table: IcebergTable
    stamps: Mapping[date, str]


@dataclass(frozen=True)
class Audit:
    """Counts of a range: rows a day, and breaches of each rule a day."""

    rows: Mapping[date, int]
    breaches: Mapping[str, Mapping[date, int]]


@dataclass(frozen=True)
class Published:
    """The result of one write."""

    table: str
    first: date
    last: date
    snapshot_id: int | None
    audit: Audit
    data_files: int
    bytes_written: int


@dataclass(frozen=True)
class Begun:
    """Rows of a table that are staged, are being staged, or will be when they are published.

    Attributes:
        declared: the table.
        frame: the rows as they were given.
        first: first day replaced.
        last: last day replaced.
        base: the table before its inputs were read.
        replaced: the files that go out, each with its first and last day.
        span: first and last day, between which no other run may have published.
        staged: the files that come in, waited for.
    """

    declared: Table
    frame: DataFrame
    first: date
    last: date
    base: Base
    replaced: Mapping[str, tuple[DataFile, date, date]]
    span: tuple[date, date]
    staged: Stage


@dataclass(frozen=True)
class _Swap:
    """What one commit publishes.

    Attributes:
        declared: the table.
        staging: the files that come in.
        replaced: the files that go out, each with its first and last day.
        span: first and last day, between which no other run may have published.
        record: what else the commit says of the days.
        properties: what its snapshot says of itself.
    """

    declared: Table
    staging: Staging
    replaced: Mapping[str, tuple[DataFile, date, date]]
    span: tuple[date, date]
    record: Record
    properties: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """How rows are divided among files: consecutive days of a month together, or a day's users apart.

    Attributes:
        first: first day of the range.
        last: last day of the range.
        days_per_file: consecutive days of a month that share a file.
        buckets: files that a single day's users are spread over.
    """

    first: date
    last: date
    days_per_file: int
    buckets: int

    @property
    def parts(self) -> int:
        """Number of write tasks."""
        return (self._group(self.last) - self._group(self.first) + 1) * self.buckets

    def part(self, day_column: str, user_column: str) -> Column:
        """The write task of a row."""
        day = F.col(day_column)
        group = (F.year(day) * 12 + F.month(day) - 1) * self._groups_a_month + F.floor(
            (F.dayofmonth(day) - 1) / self.days_per_file
        )
        bucket = F.pmod(F.xxhash64(user_column), F.lit(self.buckets)) if self.buckets > 1 else F.lit(0)
        return ((group - self._group(self.first)) * self.buckets + bucket).cast("int")

    @property
    def _groups_a_month(self) -> int:
        return -(-31 // self.days_per_file)

    def _group(self, day: date) -> int:
        return (day.year * 12 + day.month - 1) * self._groups_a_month + (day.day - 1) // self.days_per_file


class _Publication(Transaction):
    """A transaction that puts its metadata together once after each change; PyIceberg copies all of it at each look.

    There are 18 looks in a commit, and every day makes what is copied longer.
    """

    _made: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's metadata with the changes so far."""
        base, updates = self._table.metadata, self._updates
        if self._made is None or self._made[0] is not base or self._made[1] is not updates:
            self._made = base, updates, super().table_metadata
        return self._made[2]


class Warehouse:
    """The tables of one lakehouse, read and written with an engine."""

    def __init__(
        self, settings: Settings, tables: Mapping[str, Table], catalog: Catalog, engine: Callable[[], Engine]
    ) -> None:
        self.settings = settings
        self.tables = tables
        self.catalog = catalog
        self._engine = engine
        self._audits: dict[tuple[str, date, date], Published] = {}
        self._broken_rules: dict[str, Mapping[str, Column]] = {}

    @property
    def engine(self) -> Engine:
        """The current engine."""
        return self._engine()

    def base(self, name: str, stamps: Mapping[date, str]) -> Base:
        """The table as it is now (made if missing), to be noted before its inputs are read.

        Args:
            name: ``layer.table``.
            stamps: for each day to be written, the stamp of the inputs it is about to be computed from; a day without
                one has none afterwards.

        Raises:
            ErasureUnfinished: users are being forgotten.
        """
        check_none(self.settings)
        declared = self.tables[name]
        kinds = {f.name: f.dataType.simpleString() for f in declared.spark_schema.fields}
        table = self.catalog.ensure(name, kinds, declared.partition_column)
        return Base(table, stamps)

    def read(self, name: str, first: date, last: date) -> DataFrame:
        """The rows of a table from ``first`` to ``last``, of the snapshot that is current now."""
        declared = self.tables[name]
        table = self.catalog.load(name)
        files = files_overlapping(table, declared.partition_column, first, last) if table else {}
        if table is None or not files:
            return self.engine.session.createDataFrame([], declared.spark_schema)
        return self._current(declared, table, files.values()).where(_between(declared, first, last))

    def _layout(self, days: Days, source: str, read: Days) -> Layout:
        """How to divide a table's rows of some days, judged by how many rows the days read of a source have."""
        table = self.catalog.load(source)
        column = self.tables[source].partition_column
        found = files_overlapping(table, column, *read) if table else {}
        rows = sum(file.record_count for file, _, _ in found.values())
        covered = {low + timedelta(days=i) for _, low, high in found.values() for i in range((high - low).days + 1)}
        return layout(*days, rows / max(len(covered), 1), self.settings.rows_per_file)

    def divide(
        self,
        table: Table,
        days: Days,
        frame: DataFrame,
        day_column: str,
        user_column: str,
        key: Sequence[str] = (),
    ) -> DataFrame:
        """Rows of some days of a table with each in its write task, and the columns of `DIVIDED`.

        How many tasks there are follows from how many rows there are of what the table is computed from first.

        `ORDER` is a number to sort by first: rows of a day, and in it of a user, together. Spark compares the first
        sort column by its bytes alone and looks at whole rows only where two are equal. Names and dates are equal all
        the time; this is hardly ever so for two users.
        """
        source = table.inputs[0]
        divided_by = self._layout(days, source.table, Days(*source.span_read(*days)))
        user = F.xxhash64(user_column).bitwiseAND(F.lit(0xFFFF_FFFF))
        order = F.unix_date(day_column).cast("bigint") * F.lit(1 << 32) + user
        marked = frame.withColumns({PART: divided_by.part(day_column, user_column), ORDER: order})
        return self.engine.divided(marked, divided_by.parts, [*DIVIDED, day_column, *key] if key else ())

    def begin(
        self,
        name: str,
        frame: DataFrame,
        first: date,
        last: date,
        base: Base,
        beside: Callable[[Stage], Stage] = lambda stage: stage,
    ) -> Begun:
        """Rows that are to replace the days ``first`` … ``last`` of a table; `publish` does it.

        Args:
            name: ``layer.table``.
            frame: the rows; with a column `PART` they are already divided into write tasks.
            first: first day replaced.
            last: last day replaced.
            base: the table as noted before the inputs were read.
            beside: begins to stage the rows now, and gives what waits for them; default not before `publish`.
        """
        declared = self.tables[name]
        low, high = (month_first(first), month_last(last)) if declared.by_month else (first, last)
        replaced = self._replaced(declared, base.table, low, high)

        def stage() -> Staging:
            _check_schema(declared, frame)
            rows, order = self._with_neighbours(declared, frame, base.table, replaced, first, last)
            whole, counted = self._whole(declared, base.table, rows), self._counted(declared, first, last)
            return self.engine.stage(base.table, whole, order, counted, declared.key)

        return Begun(declared, frame, first, last, base, replaced, (low, high), beside(stage))

    def publish(self, begun: Begun, properties: Mapping[str, str]) -> Published:
        """Replace days of a table by the rows that were begun; days without rows become empty.

        Args:
            begun: the rows.
            properties: what the commit's snapshot says of itself, such as the run's id.

        Raises:
            ContractViolation: the columns are not as declared, or a rule of the table does not hold; readers still see
                the previous data.
            PublishConflict: another run published some of these days after their base was noted.
        """
        declared, first, last, base = begun.declared, begun.first, begun.last, begun.base
        try:
            staging = begun.staged()
        except Exception as error:
            if _STRAY in str(error):
                raise ContractViolation(self._explain_strays(declared, begun.frame, first, last)) from None
            raise
        try:
            audit = self._audit_of_stage(declared, staging, first, last)
        except BaseException:
            staging.discard()
            raise

        def vouch(transaction: Transaction, now: IcebergTable) -> None:
            if base.stamps and min(base.stamps) < (kept_from(now) or date.min):
                raise PublishConflict(
                    f"{declared.name}: days from {min(base.stamps)} on were dropped meanwhile. Nothing changed; run "
                    "again"
                )
            set_stamps(transaction, now, days_between(first, last), base.stamps)
            set_settings(transaction, now, settings_of(declared, self.settings))

        snapshot = self._publish(_Swap(declared, staging, begun.replaced, begun.span, vouch, properties))
        written = sum(file.file_size_in_bytes for file in staging.files)
        published = Published(declared.name, first, last, snapshot, audit, len(staging.files), written)
        self._audits[declared.name, first, last] = published
        return published

    def compact(self, name: str, first: date, last: date, properties: Mapping[str, str]) -> None:
        """Put the rows of the days ``first`` … ``last`` of one month into one file, sorted as the writer sorts them.

        Raises:
            PublishConflict: a run published some of these days meanwhile; nothing was changed.
        """
        table = self.catalog.iceberg.load_table(name)
        replaced = self._replaced(self.tables[name], table, first, last)
        self._rewrite(table, replaced, (first, last), None, properties)

    def drop_before(self, name: str, first_kept: date, properties: Mapping[str, str]) -> None:
        """Drop every day before ``first_kept``, rows and stamps, in one commit that also records the day.

        Raises:
            PublishConflict: a run published some of these days meanwhile; nothing was changed.
        """
        table = self.catalog.iceberg.load_table(name)
        span = (ALL_DAYS[0], first_kept - DAY)
        self._rewrite(table, self._replaced(self.tables[name], table, *span), span, first_kept, properties)

    def audit(self, name: str, first: date, last: date) -> Audit:
        """The audit of a range as it is published; what this process has just published is not counted twice."""
        declared = self.tables[name]
        table = self.catalog.load(name)
        known = self._audits.get((name, first, last))
        if table and known and known.snapshot_id == head_of(table):
            return known.audit
        return self._count(declared, self.read(name, first, last), first, last)

    def _rewrite(
        self,
        table: IcebergTable,
        replaced: Mapping[str, tuple[DataFile, date, date]],
        span: tuple[date, date],
        first_kept: date | None,
        properties: Mapping[str, str],
    ) -> None:
        """Write the rows of files again as they are, all of them or those from a day on, in place of the files."""
        name = ".".join(table.name())
        declared = self.tables[name]
        low = first_kept or min(low for _, low, _ in replaced.values())
        high = max((high for _, _, high in replaced.values()), default=low)
        same = self._current(declared, table, replaced.values()).where(_between(declared, low, high))
        rows, order = self._arranged(declared, same)
        staging = self.engine.stage(table, self._whole(declared, table, rows), order, {})
        try:
            files = [file for file, _, _ in replaced.values()]
            before, after = (sum(file.record_count for file in each) for each in (files, staging.files))
            if after != before and not first_kept:
                raise ContractViolation(f"{name} {low} … {high} was not compacted: {before} rows became {after}")
        except BaseException:
            staging.discard()
            raise

        def record(transaction: Transaction, now: IcebergTable) -> None:
            if first_kept:
                forget_stamps(transaction, now, first_kept)

        self._publish(_Swap(declared, staging, replaced, span, record, properties))

    # -- stage ---------------------------------------------------------------------------------------------------

    def _replaced(
        self, declared: Table, table: IcebergTable, low: date, high: date
    ) -> dict[str, tuple[DataFile, date, date]]:
        """The files that hold the days, and files that share days with those."""
        while True:
            found = files_overlapping(table, declared.partition_column, low, high)
            wider = (min([low, *(f[1] for f in found.values())]), max([high, *(f[2] for f in found.values())]))
            if wider == (low, high):
                return found
            low, high = wider

    def _with_neighbours(
        self,
        declared: Table,
        frame: DataFrame,
        table: IcebergTable,
        replaced: Mapping[str, tuple[DataFile, date, date]],
        first: date,
        last: date,
    ) -> tuple[DataFrame, Sequence[str]]:
        """The new rows and the rows of other days that sit in files about to be replaced; what they are sorted by."""
        kept = [f for f in replaced.values() if f[1] < first or f[2] > last]
        divided = PART in frame.columns
        key = [name for name in declared.key if name != declared.partition_column]  # `ORDER` has the day
        order = [ORDER, *key] if ORDER in frame.columns else []
        # a row of another day would wipe or double its neighbours, so the write itself stops at the first one
        day = F.col(declared.partition_column)
        own_day = F.when(day.between(F.lit(first), F.lit(last)), day).otherwise(F.raise_error(_STRAY).cast("date"))
        rows = frame.withColumn(declared.partition_column, own_day)
        if divided:
            rows = self._repeats_marked(declared, rows, order)
        if kept:
            low, high = min(f[1] for f in kept), max(f[2] for f in kept)
            inside = _between(declared, low, high) & ~_between(declared, first, last)
            old = self._current(declared, table, kept).where(inside)
            if divided:  # before and after apart, so that no file spans the new days
                after = (F.col(declared.partition_column) > F.lit(last)).cast("int")
                old = self.engine.divided(old.withColumn(PART, after), 2).withColumn(PART, F.col(PART) - F.lit(2))
            # the engine is asked for the columns only where they may differ
            rows = stacked(rows, old) if divided else rows.unionByName(old)
        if not divided:
            return self._arranged(declared, rows)
        return rows, order

    def _arranged(self, declared: Table, rows: DataFrame) -> tuple[DataFrame, Sequence[str]]:
        """Rows that are not divided into write tasks yet: a task per month, in the order of the key."""
        month = F.year(declared.partition_column) * 12 + F.month(declared.partition_column)
        rows = self.engine.gathered(rows.withColumn(PART, month), one_task=declared.by_month)
        order = list(dict.fromkeys([PART, *declared.sorted_by, declared.partition_column, *declared.key]))
        return self._repeats_marked(declared, rows, order), order

    def _repeats_marked(self, declared: Table, rows: DataFrame, order: Sequence[str]) -> DataFrame:
        return self.engine.repeats_marked(rows, order, declared.key) if declared.key else rows

    def _whole(self, declared: Table, table: IcebergTable, rows: DataFrame) -> DataFrame:
        """Rows of the declared columns with those that an older table has too, null: the settings no longer make them.

        The engine is not asked what the rows have: with Sail that is a call of the server.
        """
        for name in table.schema().column_names:
            if name not in declared.columns:
                rows = rows.withColumn(name, F.lit(None).cast(kind_of(table, name)))
        return rows

    def _current(self, declared: Table, table: IcebergTable, files: Iterable[tuple[DataFile, date, date]]) -> DataFrame:
        """A table's rows as of the loaded snapshot, columns as declared; ``files`` are those that will be read."""
        frame = self.engine.read(table, [file for file, _, _ in files])
        for column in set(declared.columns) - set(table.schema().column_names):
            frame = frame.withColumn(column, F.lit(None).cast(declared.spark_schema[column].dataType))
        return frame.select(*declared.columns)

    # -- audit ---------------------------------------------------------------------------------------------------

    def _counted(self, declared: Table, first: date, last: date) -> Mapping[str, Column]:
        """What to count rows of the days by while they are staged: all of them, and breaches of every rule."""
        own = _between(declared, first, last)
        return {_ROWS: own} | {name: own & broken for name, broken in self._broken(declared).items()}

    def _audit_of_stage(self, declared: Table, staging: Staging, first: date, last: date) -> Audit:
        """What was counted while the rows were written; counted again where a rule is broken, to say so by day.

        And where nothing was counted: a Connect server waits a tenth of a second for what it has observed, and answers
        without it when it is busy.

        Raises:
            ContractViolation: a rule is broken, or other rows were staged than were counted.
        """
        if not staging.files:
            return Audit({}, {})
        counted = dict(staging.counted)
        rows = counted.pop(_ROWS, None)
        if rows is None or any(counted.values()):
            stage = staging.rows()
            audit = self._count(declared, stage, first, last)
            if any(counted.values()) or any(audit.breaches.values()):
                raise ContractViolation(self._explain(declared, stage, audit, first, last))
            rows = sum(audit.rows.values())
        by_day = self._rows_by_day(declared, staging.files, first, last)
        if sum(by_day.values()) != rows:
            raise ContractViolation(
                f"{declared.name} {first} … {last} was not published: {rows} rows were audited and "
                f"{sum(by_day.values())} staged; run it again"
            )
        return Audit(by_day, {})

    def _rows_by_day(self, declared: Table, added: Sequence[DataFile], first: date, last: date) -> dict[date, int]:
        """Rows of each day in staged files: a file of one day says it itself, of a shared one the days are read."""
        table = self.catalog.iceberg.load_table(declared.name)
        found: dict[date, int] = {}
        for file in added:
            low, high = days_in_file(table, declared.partition_column, file)
            if low == high:
                counts = [(low, file.record_count)]
            else:
                with table.io.new_input(file.file_path).open() as source:
                    days = pq.ParquetFile(source).read([declared.partition_column]).column(0)
                counts = [(pair["values"], pair["counts"]) for pair in days.value_counts().to_pylist()]
            for day, count in counts:
                if first <= day <= last:
                    found[day] = found.get(day, 0) + count
        return found

    def _count(self, declared: Table, frame: DataFrame, first: date, last: date) -> Audit:
        """All rules in one pass by day; meanwhile the unique key in a second, by hash, made exact where hashes meet."""
        rules = {name: F.count_if(broken) for name, broken in self._broken(declared).items()}
        day = F.col(declared.partition_column)
        with ThreadPoolExecutor(max_workers=1) as beside:
            doubles = beside.submit(self._duplicate_keys, declared, frame) if declared.key else None
            counted = (
                frame.groupBy(day.alias("day"))
                .agg(F.count(F.lit(1)).alias("rows"), *[rule.alias(name) for name, rule in rules.items()])
                .collect()
            )
            inside = {row["day"]: row for row in counted if row["day"] and first <= row["day"] <= last}
            breaches = {name: {d: row[name] for d, row in inside.items() if row[name]} for name in rules}
            if doubles:
                breaches[NO_DUPLICATE_KEY] = doubles.result()
        return Audit({d: row["rows"] for d, row in inside.items()}, breaches)

    def _broken(self, declared: Table) -> Mapping[str, Column]:
        """For each rule of a table whether a row breaks it; put together once, as each takes many calls."""
        if declared.name not in self._broken_rules:
            self._broken_rules[declared.name] = {rule.name: _breaks(rule) for rule in declared.contract()}
        return self._broken_rules[declared.name]

    def _duplicate_keys(self, declared: Table, frame: DataFrame) -> dict[date, int]:
        hashed = frame.withColumn("_hash", F.xxhash64(*declared.key))
        meeting = [row[0] for row in hashed.groupBy("_hash").count().where("count > 1").select("_hash").take(100_000)]
        if not meeting:
            return {}
        suspects = hashed.where(F.col("_hash").isin(meeting))
        twice = suspects.groupBy(*declared.key).count().where("count > 1")
        by_day = twice.groupBy(declared.partition_column).agg(F.sum(F.col("count") - 1).alias("rows")).collect()
        return {row[0]: row["rows"] for row in by_day}

    def _explain(self, declared: Table, frame: DataFrame, audit: Audit, first: date, last: date) -> str:
        """One sentence with the broken rules, how often, and sample rows."""
        rules = {rule.name: rule for rule in declared.contract()}
        parts = []
        for name, days in audit.breaches.items():
            if not days:
                continue
            rows = sum(days.values())
            about = self._broken_part(frame, rules[name]) if name in rules else f"key {', '.join(declared.key)}"
            sample = ""
            if name in rules:
                bad = frame.where(~F.coalesce(rules[name].holds(), F.lit(False))).limit(_SAMPLE_ROWS).collect()
                sample = "; for example " + " | ".join(str(row.asDict()) for row in bad)
            when = f"first on {min(days)}" if len(days) > 1 else f"on {min(days)}"
            parts.append(f"check {name} ({about}) failed for {some(rows, 'row')}, {when}{sample}")
        span = span_in_words(first, last)
        return f"{declared.name} {span} was not published, readers keep the previous data: {'; '.join(parts)}"

    def _broken_part(self, frame: DataFrame, rule: Rule) -> str:
        """What of a rule is broken."""
        parts = rule.parts or (rule,)
        counts = frame.agg(*[F.count_if(_breaks(part)) for part in parts]).collect()[0]
        return "; ".join(part.description for part, count in zip(parts, counts, strict=True) if count)

    def _explain_strays(self, declared: Table, frame: DataFrame, first: date, last: date) -> str:
        stray = frame.drop(ORDER, PART).where(~F.coalesce(_between(declared, first, last), F.lit(False)))
        sample = " | ".join(str(row.asDict()) for row in stray.limit(_SAMPLE_ROWS).collect())
        return (
            f"{declared.name} {span_in_words(first, last)} was not published, readers keep the previous data: check "
            f"{IN_ITS_PARTITION} failed for {some(stray.count(), 'row')} of other days; for example {sample}"
        )

    # -- publish -------------------------------------------------------------------------------------------------

    def _publish(self, swap: _Swap) -> int | None:
        """Commit; the snapshot, if the table has one.

        Raises:
            PublishConflict: another run has published some of the days, or what was staged is gone; it is discarded.
        """
        try:
            return self._commit(swap)
        except PublishConflict:  # of any other failure the outcome is unknown, and then nothing is deleted
            swap.staging.discard()
            raise

    def _commit(self, swap: _Swap) -> int | None:
        """One commit: new files in, replaced files out, stamps recorded, nothing staged any more."""
        name, staging = swap.declared.name, swap.staging
        for attempt in range(_PUBLISH_ATTEMPTS):
            now = self.catalog.iceberg.load_table(name)
            if staging.is_abandoned(now):
                raise PublishConflict(
                    f"{name}: this run took longer than LAKEHOUSE_ABANDONED_HOURS, so maintenance may have "
                    "removed its unpublished files. Nothing changed; run again, or raise the limit"
                )
            if set(self._replaced(swap.declared, now, *swap.span)) != set(swap.replaced):
                raise PublishConflict(
                    f"{name}: another run published days between {swap.span[0]} and {swap.span[1]} while this one "
                    "computed. Nothing changed; run again"
                )
            transaction = _Publication(now)
            swap.record(transaction, now)
            staging.release(transaction, now)
            if staging.files or swap.replaced:
                overwrite = transaction.update_snapshot(snapshot_properties=dict(swap.properties)).overwrite()
                for file, _, _ in swap.replaced.values():
                    overwrite.delete_data_file(file)
                for file in staging.files:
                    overwrite.append_data_file(file)
                overwrite.commit()
            try:
                return head_of(transaction.commit_transaction())
            except (CommitFailedException, ValidationException):  # both mean that nothing was committed
                pass
            except NO_ANSWER as error:  # asked again it might publish over a newer run, so look what became of it
                return self._outcome(name, staging, transaction, error)
            except ValueError as error:
                if "sequence number" not in str(error):  # that one means another run staged in between
                    raise
            time.sleep(min(0.02 * 2**attempt, 1.0))
        raise PublishConflict(
            f"{name}: other runs kept publishing it ({_PUBLISH_ATTEMPTS} attempts). Nothing changed; run "
            "again when they have ended"
        )

    def _outcome(self, name: str, staging: Staging, transaction: Transaction, error: Exception) -> int | None:
        """The snapshot that a commit without an answer has published.

        Raises:
            CatalogUnreachable: it has not, as far as can be seen; nothing is deleted, as it may still come to that.
        """
        wanted = transaction.table_metadata.current_snapshot_id
        now = self.catalog.iceberg.load_table(name)
        if wanted is not None and staging.is_released(now, wanted):
            return wanted
        raise CatalogUnreachable(
            f"{name}: the catalog gave no answer to the commit, which is not published; run it again ({error})"
        ) from error


def layout(first: date, last: date, rows_a_day: float, rows_per_file: int) -> Layout:
    """Days per file and files per day for a given density of rows."""
    days = max(1, min(31, int(rows_per_file // max(rows_a_day, 1))))
    buckets = max(1, -(-int(rows_a_day) // rows_per_file)) if days == 1 else 1
    return Layout(first, last, days, buckets)


def _between(declared: Table, first: date, last: date) -> Column:
    return F.col(declared.partition_column).between(F.lit(first), F.lit(last))


def _breaks(rule: Rule) -> Column:
    return ~F.coalesce(rule.holds(), F.lit(False))


def _check_schema(declared: Table, frame: DataFrame) -> None:
    """Names and types against the declared schema, without reading a row."""
    # asked of the frame itself, which remembers it: with Sail each new frame's columns are a call of the server
    delivered = {field.name: field.dataType for field in frame.schema.fields if field.name not in (ORDER, PART)}
    wanted = {field.name: field.dataType for field in declared.spark_schema.fields}
    if delivered != wanted:
        names = sorted(name for name in delivered.keys() | wanted.keys() if delivered.get(name) != wanted.get(name))
        raise ContractViolation(
            f"{declared.name} was not published, its columns are not as declared: "
            + ", ".join(f"{name} is {delivered.get(name)}, declared {wanted.get(name)}" for name in names)
        )
