"""The I/O manager: replaces a table's days by the frame that an asset returns, and reads its inputs."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import date
from functools import partial
from typing import Any, NoReturn

import dagster as dg
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.table import Table, parameters
from lakehouse_assets.assets.users_as_of import UsersAsOf
from lakehouse_assets.calendar import DAY, Days, days_between, span_in_words
from lakehouse_assets.errors import SetupError
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.ahead import Ahead, StagedAhead, in_order
from lakehouse_assets.orchestration.dagster_internals import AssetMetadataHandle, OutputMetadataAccumulator
from lakehouse_assets.orchestration.own_assets import DAY_COLUMN, read_table, store
from lakehouse_assets.orchestration.runs import wait_for_other_runs
from lakehouse_assets.orchestration.ui_metadata import UiMetadata
from lakehouse_assets.planning.planner import Stale
from lakehouse_assets.settings import SettingsError
from lakehouse_assets.storage.catalog_errors import CatalogError, CatalogLocked
from lakehouse_assets.storage.engine import EngineGone, OutOfMemory, ServerGone
from lakehouse_assets.storage.repair import DamagedTable
from lakehouse_assets.storage.s3 import StorageError
from lakehouse_assets.storage.warehouse import Base, Begun, ContractViolation, PublishConflict, Published

_MOST_RETRIES, _LONGEST_WAIT_SECONDS = 20, 3.0
_MOST_SERVERS = 3  # servers that end during a step before the step itself counts as the cause


class IcebergIOManager(dg.IOManager):
    """Loads and publishes daily partitions of the lakehouse's tables; a range is one read and one commit."""

    def __init__(self, lakehouse: Lakehouse, shown: UiMetadata) -> None:
        self._lakehouse = lakehouse
        self._ui = shown
        self._ahead = StagedAhead()
        self._in_order: list[Table] = []  # those that this process computes in the run, as their steps come
        self._bases: dict[tuple[str, str], Base] = {}
        self._in_range: set[str] = set()  # runs

    def load_input(self, context: dg.InputContext) -> Any:
        """The days of a table that its declaration as an input names for the run's days, for a declared table.

        For another asset all its days, or those that the asset's own partitions map to (`own_assets`).
        """
        step, source = context.step_context, table_name(context.asset_key)
        name = table_name(step.step.key)
        if name in self._lakehouse.tables:
            if ahead := self._ahead.of(name):
                return ahead.inputs[source]
            with self.naming_trouble(step.run_id, name, step.previous_attempt_count):
                return self._read(step.run_id, name, source, Days(*_range(step.partition_key_range)))
        days = Days(*_range(context.asset_partition_key_range)) if context.has_asset_partitions else None
        return read_table(self._lakehouse, source, days, context.dagster_type.typing_type)

    def rows(self, context: dg.AssetExecutionContext, frames: dict[str, Any]) -> DataFrame:
        """The rows of a declared table for the days of the run, from its inputs by its function's parameters.

        What no input loads is added: its own earlier days.
        """
        name = table_name(context.asset_key)
        if ahead := self._ahead.of(name):
            return ahead.begun.frame
        days = Days(*_range(context.partition_key_range))
        with self.naming_trouble(context.run.run_id, name, context.retry_number):
            return self._computed(context.run.run_id, self._lakehouse.tables[name], days, frames)

    def _computed(self, run_id: str, table: Table, days: Days, frames: dict[str, Any]) -> DataFrame:
        for parameter, i in table.reads.items():
            if i.table == table.name and parameter not in frames:
                frames[parameter] = self._read(run_id, table.name, i.table, days)
        divide = partial(self._lakehouse.warehouse.divide, table, days)
        return table.rows(frames, days, self._lakehouse.settings, divide)

    def _read(self, run_id: str, name: str, source: str, days: Days) -> DataFrame | UsersAsOf:
        first, last = days
        declared = next(i for i in self._lakehouse.tables[name].inputs if i.table == source)
        low, high = declared.span_read(first, last)
        self.note_base(run_id, name, first, last)
        if declared.as_of:
            deliveries = self._lakehouse.planner.user_deliveries(source, first, last)
            high = max(deliveries, default=low - DAY)
            return UsersAsOf(self._lakehouse.warehouse.read(source, low, high), deliveries)
        if source == name:
            high = first - DAY
        return self._lakehouse.warehouse.read(source, low, high)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Replace the run's days of a table by the frame's rows; of an asset that is not declared, see `own_assets`."""
        name = table_name(context.asset_key)
        if name not in self._lakehouse.tables:
            self._store(context, name, obj)
            return
        first, last = _range(context.asset_partition_key_range)
        base = self.note_base(context.run_id, name, first, last)
        del self._bases[context.run_id, name]
        ahead = self._ahead.taken(name)
        properties = {
            "lakehouse.run-id": context.run_id,
            "lakehouse.first-day": first.isoformat(),
            "lakehouse.last-day": last.isoformat(),
            "lakehouse.engine": self._lakehouse.engine.name,
        }
        days, tried = Days(first, last), context.step_context.previous_attempt_count
        try:
            with (
                self._waiting_for_other_runs(context.step_context, name, days, base),
                self.naming_trouble(context.run_id, name, tried),
            ):  # only now the inputs are read
                begun = ahead.begun if ahead else self._begin_now(name, obj, days, base)
                published = self._lakehouse.warehouse.publish(begun, properties)
        except (PublishConflict, CatalogLocked) as passing:  # only these can succeed when repeated
            if isinstance(passing, CatalogLocked) and tried >= _MOST_RETRIES:
                self._lakehouse.trouble.note(context.run_id, passing)
            wait = random.uniform(0, _LONGEST_WAIT_SECONDS)  # noqa: S311  so that writers of one file don't meet again
            raise dg.RetryRequested(max_retries=_MOST_RETRIES, seconds_to_wait=wait) from passing
        except OutOfMemory as shortage:
            self._ahead.settle()  # what is being staged is Sail's
            if not self._lakehouse.engines.hand_over(name):
                raise OutOfMemory(f"{shortage}; raise LAKEHOUSE_DRIVER_MEMORY, or set LAKEHOUSE_ENGINE=spark") from None
            told = f"{shortage}: Spark computes it"
            context.log.warning("%s", told)
            raise dg.RetryRequested(max_retries=_MOST_RETRIES) from OutOfMemory(told)
        shown = ahead.shown if ahead else self._ui.begin(self._lakehouse.tables[name], base.table, days)
        self._begin_others(context.step_context, published)
        self._report(context, published, shown)

    def end(self) -> None:
        """The run has ended."""
        self._ahead.end()

    def _begin_now(self, name: str, rows: DataFrame, days: Days, base: Base) -> Begun:
        """Rows that the table's step publishes; staged when it does."""
        self._ahead.settle()
        return self._lakehouse.warehouse.begin(name, self._own(name, rows, days, base), *days, base)

    def _own(self, name: str, rows: DataFrame, days: Days, base: Base) -> DataFrame:
        """The rows without those of days that the lake has not."""
        foreign = [day for day in days_between(*days) if day not in base.stamps]
        day = F.col(self._lakehouse.tables[name].partition_column)
        return rows.where(~F.coalesce(day.isin(foreign), F.lit(False))) if foreign else rows

    def _begin_others(self, step: dg.StepExecutionContext, published: Published) -> None:
        """Let the engine stage other tables of the run, while this process records the published one."""
        engines = self._lakehouse.engines
        if not engines.now.stages_beside or engines.any_handed_over:
            return
        if not self._in_order:
            names = map(table_name, in_order(step.execution_plan.get_executable_step_deps()))
            self._in_order = [self._lakehouse.tables[name] for name in names if name in self._lakehouse.tables]
        self._ahead.published(published.table)
        while table := self._ahead.next_of(self._in_order):
            self._begin_ahead(step, table, Days(published.first, published.last))
        engines.turn_to(published.table)

    def _begin_ahead(self, step: dg.StepExecutionContext, table: Table, days: Days) -> None:
        run_id = step.run_id
        try:
            wanted = {name: i for name, i in table.reads.items() if name in parameters(table.function)}
            frames = {name: self._read(run_id, table.name, i.table, days) for name, i in wanted.items()}
            inputs = {i.table: frames[name] for name, i in wanted.items()}
            base = self.note_base(run_id, table.name, *days)
            rows = self._own(table.name, self._computed(run_id, table, days, frames), days, base)
            begun = self._lakehouse.warehouse.begin(table.name, rows, *days, base, self._ahead.beside)
            shown = self._ui.begin(table, base.table, days, self._ahead.files_after(begun))
            self._ahead.keep(table.name, Ahead(inputs, begun, shown))
        except Exception:  # its own step meets it again, and names it
            step.log.debug("%s could not be begun before its step", table.name, exc_info=True)
            self._bases.pop((run_id, table.name), None)

    def _store(self, context: dg.OutputContext, name: str, rows: object) -> None:
        days = Days(*_range(context.asset_partition_key_range)) if context.has_asset_partitions else None
        table = store(self._lakehouse, name, rows, days, (context.definition_metadata or {}).get(DAY_COLUMN))
        columns = [dg.TableColumn(field.name, str(field.field_type)) for field in table.schema().fields]
        context.add_output_metadata({"dagster/table_name": name, "dagster/column_schema": dg.TableSchema(columns)})

    @contextmanager
    def naming_trouble(self, run_id: str, name: str, tried: int) -> Iterator[None]:
        """Name the file or folder that an error comes from; one that concerns every table fails later steps at once.

        Raises:
            RetryRequested: Spark's server had ended and is there again; what the old one was asked is to be asked anew.
        """
        self._lakehouse.trouble.raise_met(run_id)
        try:
            with self._lakehouse.repair.naming_damage([name, *(i.table for i in self._lakehouse.tables[name].inputs)]):
                yield
        except (ContractViolation, PublishConflict, DamagedTable, CatalogLocked, OutOfMemory):
            raise
        except ServerGone as gone:
            self._begin_again(run_id, gone, tried)
        except (CatalogError, StorageError, SettingsError, SetupError) as error:
            if not (isinstance(error, SetupError) and self._lakehouse.engines.has_handed_over(name)):
                self._lakehouse.trouble.note(run_id, error)
            raise
        except Exception:
            try:
                self._lakehouse.engine.check()
            except EngineGone as gone:
                if not self._lakehouse.engines.has_handed_over(name):
                    self._lakehouse.trouble.note(run_id, gone)
                raise gone from None
            except ServerGone as gone:
                self._begin_again(run_id, gone, tried)
            raise

    def _begin_again(self, run_id: str, gone: ServerGone, tried: int) -> NoReturn:
        """Wait for the server and have the step tried again, unless it has been often enough."""
        try:
            if tried >= _MOST_SERVERS:
                raise gone from None
            self._lakehouse.engine.begin_again()
        except ServerGone as still:
            self._lakehouse.trouble.note(run_id, still)
            raise
        raise dg.RetryRequested(max_retries=_MOST_SERVERS) from gone

    @contextmanager
    def _waiting_for_other_runs(
        self, step: dg.StepExecutionContext, name: str, days: Days, base: Base
    ) -> Iterator[None]:
        """Where rows break a rule, wait for runs that are changing the table's inputs.

        Raises:
            RetryRequested: the inputs are others now than they were.
            ContractViolation: names the input that is not computed, if that may be why.
        """

        def stale() -> Stale:
            with self.naming_trouble(step.run_id, name, step.previous_attempt_count):
                return self._stale_inputs(name, days)

        try:
            yield
        except ContractViolation as violation:
            longest = self._lakehouse.settings.run_timeout_seconds
            wait_for_other_runs(step.instance, step.run_id, step.log, stale, longest)
            with self.naming_trouble(step.run_id, name, step.previous_attempt_count):
                changed = self._lakehouse.planner.expected(name, days_between(*days)) != base.stamps
                landed = self._lakehouse.zone.listings()
                waiting = self._lakehouse.planner.waiting_for(name, *days, landed).values()
            if changed:
                step.log.warning("%s: what it is computed from has changed; it is computed again", name)
                raise dg.RetryRequested(max_retries=_MOST_RETRIES) from violation
            missing = next((origin for origin in waiting if origin.table != name), None)
            if missing is None:
                raise
            raise ContractViolation(
                f"{name} {span_in_words(*days)} was not published: it depends on days that are not computed yet "
                f"({missing}). `lakehouse run` computes them first. What failed: {violation}"
            ) from None  # the page shows what is innermost

    def _stale_inputs(self, name: str, days: Days) -> Stale:
        """Stale days that those of a table follow from: of other tables, and its own earlier ones."""
        stale = self._lakehouse.planner.stale_for(name, *days, self._lakehouse.zone.listings())
        return stale | {name: {day: why for day, why in stale[name].items() if day < days[0]}}

    def note_base(self, run_id: str, name: str, first: date, last: date) -> Base:
        """The target before the step read anything, so that a newer computation is never overwritten.

        An asset that reads what no input loads (delivered files) calls this before it looks at them, so that a file
        replaced while it is read leaves the day stale instead of vouching for rows that were never read.

        Raises:
            RangeError: the lakehouse has not all of these days.
            DroppedDays: cleanup has dropped some of them.
        """
        self._lakehouse.engines.turn_to(name)
        if (run_id, name) not in self._bases:
            self._check_range(run_id, name, first, last)
            stamps = self._lakehouse.planner.expected(name, days_between(first, last))
            self._bases[run_id, name] = self._lakehouse.warehouse.base(name, stamps)
        return self._bases[run_id, name]

    def _check_range(self, run_id: str, name: str, first: date, last: date) -> None:
        """Refuse days that the lakehouse has not and the table neither; looked up once a run.

        Users have days of their own, and none elsewhere whatever is asked for.
        """
        if run_id in self._in_range or self._lakehouse.declared[name].calendar == "users":
            return
        if not set(days_between(first, last)) <= set(self._lakehouse.catalog.stamps(name)):
            self._lakehouse.planner.check_range(first, last)
        self._in_range.add(run_id)

    def _report(self, context: dg.OutputContext, published: Published, shown: Future[dict[str, Any]]) -> None:
        table = self._lakehouse.tables[published.table]
        rows = sum(published.audit.rows.values())
        context.add_output_metadata(
            {
                "snapshot_id": str(published.snapshot_id),
                "range": span_in_words(published.first, published.last),
                "range_rows": rows,
                "range_files": published.data_files,
                "range_bytes": published.bytes_written,
                "engine": self._lakehouse.engine.name,
            }
        )
        days: dict[str, dict[str, Any]] = {
            day.isoformat(): {"dagster/row_count": published.audit.rows.get(day, 0)}
            for day in days_between(published.first, published.last)
        }
        # Dagster shows the newest event's columns; on every day of a year they are most of what a run has to log
        days[published.last.isoformat()] |= {"dagster/column_schema": column_schema(table)} | _unless_it_failed(
            context, published, shown
        )
        _add_metadata_of_days(context.step_context, context.asset_key, days)
        told = (table.name, rows, len(days), published.data_files, self._lakehouse.engine.name)
        context.log.info("%s: %s rows over %s days in %s files, computed by %s", *told)


def _unless_it_failed(context: dg.OutputContext, published: Published, shown: Future[dict[str, Any]]) -> dict[str, Any]:
    try:
        return shown.result()
    except Exception:  # the rows are published and right, whether they can be drawn or not
        context.log.warning("%s: its plot and tables can't be shown", published.table, exc_info=True)
        return {}


def _add_metadata_of_days(
    step: dg.StepExecutionContext, key: dg.AssetKey, days: Mapping[str, Mapping[str, Any]]
) -> None:
    """What calling `add_asset_metadata` for each day does, which lists all days of the run again in every call."""
    accumulated = dict(step._metadata_accumulator.per_output_metadata)
    for day, metadata in days.items():
        accumulated[AssetMetadataHandle(asset_key=key, partition_key=day)] = metadata
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=accumulated)


def column_schema(table: Table) -> dg.TableSchema:
    """A table's columns as Dagster shows them."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                name,
                column.kind,
                column.description,
                dg.TableColumnConstraints(
                    nullable=column.nullable, other=[check.description for check in column.checks]
                ),
            )
            for name, column in table.columns.items()
        ]
    )


def table_name(key: dg.AssetKey | str) -> str:
    """``layer.table`` of an asset key or of the step that computes it."""
    return key.replace("__", ".") if isinstance(key, str) else ".".join(key.path)


def _range(keys: dg.PartitionKeyRange) -> tuple[date, date]:
    return date.fromisoformat(keys.start), date.fromisoformat(keys.end)
