import atexit
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import dagster as dg
import pytest
from dagster._core.event_api import PartitionKeyFilter
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage
from sqlalchemy import create_engine, text

from lakehouse_assets.orchestration import event_log
from lakehouse_assets.orchestration.dagster_internals import (
    AssetCheckExecutionRecordStatus,
    AssetCheckExecutionsTable,
    SqlEventLogStorage,
    SqliteEventLogStorage,
)
from lakehouse_assets.orchestration.event_log import BatchingSqliteEventLogStorage
from lakehouse_assets.orchestration.instance import dagster_home
from lakehouse_assets.orchestration.postgres_event_log import BatchingPostgresEventLogStorage
from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.stack.services import start_postgres

DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-05")
DAY_KEYS = DAYS.get_partition_keys()
YEAR = {"dagster/asset_partition_range_start": DAY_KEYS[0], "dagster/asset_partition_range_end": DAY_KEYS[-1]}
ASSET = dg.AssetKey("daily")
CHECK = dg.AssetCheckKey(ASSET, "c0")
DAGSTER_YAML = """
telemetry: {enabled: false}
event_log_storage:
  module: lakehouse_assets.orchestration.event_log
  class: BatchingSqliteEventLogStorage
  config: {base_dir: %s}
"""


class NoFiles(dg.IOManager):
    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        context.add_output_metadata({"rows": 3})

    def load_input(self, context: dg.InputContext) -> None: ...


@dg.asset
def undated() -> None: ...


@dg.asset_check(asset=undated)
def undated_check() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), deps=[undated])
def daily(context: dg.AssetExecutionContext) -> None:
    for key in context.partition_keys:
        context.add_asset_metadata({"rows": 3}, partition_key=key)


def day_checks(after_each: Callable[[dg.AssetCheckExecutionContext, int], None]) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=[dg.AssetCheckSpec(f"c{n}", asset=ASSET, partitions_def=DAYS) for n in range(2)])
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
        for day, key in enumerate(DAY_KEYS):
            for n in range(2):
                yield dg.AssetCheckEvaluation(
                    asset_key=ASSET, check_name=f"c{n}", passed=day != n, metadata={"day": key}, partition=key
                )
            after_each(context, day)
        for out in context.op_execution_context.op_def.output_defs:
            yield dg.Output(None, output_name=out.name)

    return checks


def run(
    instance: dg.DagsterInstance, after_each: Callable[[dg.AssetCheckExecutionContext, int], None] = lambda *_: None
) -> dg.ExecuteInProcessResult:
    assets = [undated, undated_check, daily, day_checks(after_each)]
    resources = {"io_manager": NoFiles()}
    return dg.materialize(assets, instance=instance, resources=resources, tags=YEAR, raise_on_error=False)


STORED = ("event_logs", "asset_keys", "asset_check_executions", "asset_event_tags")
UPSERTED = ("asset_keys", "asset_check_executions")
OF_UPSERTED = {"assets", "latest", "history", "summary"}  # answers that hold numbers of those rows


def stored_rows(base_dir: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the files but the times at which rows were made."""
    rows = {}
    for path in sorted(base_dir.glob("*.db")):
        with closing(sqlite3.connect(path)) as conn:
            for table in STORED:
                names = [name for _, name, *_ in conn.execute(f"PRAGMA table_info({table})")]
                columns = ", ".join(f'"{name}"' for name in names if name != "create_timestamp")
                rows[f"{path.stem}.{table}"] = conn.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()
    return rows


def kinds_of_files(base_dir: Path) -> list[list[tuple[Any, ...]]]:
    """How the database of each run is made."""
    kinds = []
    for path in sorted(base_dir.glob("*-*.db")):
        with closing(sqlite3.connect(path)) as conn:
            asked = "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2", "PRAGMA journal_mode", "PRAGMA page_size"
            kinds.append([row for query in asked for row in conn.execute(query)])
    return kinds


def evaluated_days(base_dir: Path) -> int:
    """What another process finds now."""
    with closing(sqlite3.connect(base_dir / "index.db")) as conn:
        query = "SELECT count(*) FROM asset_check_executions WHERE check_name = 'c0' AND execution_status <> 'PLANNED'"
        return int(conn.execute(query).fetchone()[0])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteEventLogStorage]:
    """Two runs over the same days, as Dagster's own storage keeps them."""
    home = tmp_path_factory.mktemp("plain")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert all(run(instance).success for _ in range(2))
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        yield instance.event_log_storage


@pytest.fixture(scope="module")
def events(plain: SqliteEventLogStorage) -> list[dg.EventLogEntry]:
    runs = sorted((plain.get_logs_for_run(run_id) for run_id in plain.get_all_run_ids()), key=lambda r: r[0].timestamp)
    return [event for logs in runs for event in logs]


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batching")


@pytest.fixture(scope="module")
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    (home / "dagster.yaml").write_text(DAGSTER_YAML % (home / "runs"))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@pytest.fixture
def no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MAX_BUFFERED_SECONDS", 3600)


def day_events(events: list[dg.EventLogEntry]) -> list[dg.EventLogEntry]:
    of_one_run = [event for event in events if event.run_id == events[0].run_id]
    buffered = [e for e in of_one_run if event_log._is_buffered(e) and event_log.is_of_an_asset(e)]
    # planned, materialized and two evaluations; and three checks are planned, each for all days at once
    assert len(buffered) == len(DAY_KEYS) * 4 + 3
    return buffered


def store_all(storage: SqlEventLogStorage, events: list[dg.EventLogEntry]) -> None:
    for event in events:
        storage.store_event(event)


def test_dagster_yaml_loads_it_here_and_in_started_processes(instance: dg.DagsterInstance, home: Path) -> None:
    with dg.DagsterInstance.from_ref(instance.get_ref()) as in_other_process:
        for storage in (instance.event_log_storage, in_other_process.event_log_storage):
            assert type(storage) is BatchingSqliteEventLogStorage
            assert storage._base_dir == str(home / "runs")
            assert storage.inst_data


def answers(storage: SqlEventLogStorage, run_ids: list[str]) -> dict[str, Any]:
    checks = [CHECK, dg.AssetCheckKey(ASSET, "c1"), dg.AssetCheckKey(undated.key, "undated_check")]
    days = [PartitionKeyFilter(key=key) for key in DAY_KEYS]
    with storage.index_connection() as conn:  # the only answers that depend on when they were stored
        conn.execute(AssetCheckExecutionsTable.update().values(create_timestamp=datetime(2026, 1, 1, tzinfo=UTC)))
    return {
        "partitions": storage.get_materialized_partitions(ASSET),
        "ids": storage.get_latest_storage_id_by_partition(ASSET, dg.DagsterEventType.ASSET_MATERIALIZATION),
        "materializations": [storage.fetch_materializations(key, limit=100) for key in (ASSET, undated.key)],
        "assets": storage.get_asset_records([ASSET, undated.key]),
        "tags": storage.get_event_tags_for_asset(ASSET),
        "runs": [(storage.get_records_for_run(run_id), storage.get_stats_for_run(run_id)) for run_id in run_ids],
        "latest": [storage.get_latest_asset_check_execution_by_key(checks, day) for day in (None, *days)],
        "history": [storage.get_asset_check_execution_history(check, limit=100) for check in checks],
        "summary": storage.get_asset_check_summary_records(checks),
        "check partitions": storage.get_asset_check_partition_info(checks),
    }


@pytest.mark.usefixtures("no_timer")
def test_leaves_the_rows_and_answers_of_the_plain_storage(
    plain: SqliteEventLogStorage, events: list[dg.EventLogEntry], base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_ids = list(dict.fromkeys(event.run_id for event in events))
    assert len(run_ids) == 2
    expected = answers(plain, run_ids)
    assert expected["partitions"] == set(DAY_KEYS)
    monkeypatch.setattr(event_log, "MAX_BUFFERED_EVENTS", 7)  # so that the size ends some batches, other events others
    storage = BatchingSqliteEventLogStorage(str(base_dir))
    store_all(storage, events)
    assert answers(storage, run_ids) == expected
    assert stored_rows(base_dir) == stored_rows(Path(plain._base_dir))
    assert len(kinds_of_files(base_dir)) == 2
    assert kinds_of_files(base_dir) == kinds_of_files(Path(plain._base_dir))
    with closing(sqlite3.connect(base_dir / "index.db")) as index:
        assert index.execute("PRAGMA page_size").fetchone() == (16384,)


@pytest.mark.usefixtures("no_timer")
def test_a_read_in_the_middle_of_a_run_sees_everything(instance: dg.DagsterInstance, home: Path) -> None:
    before = evaluated_days(home / "runs")
    seen: list[tuple[int, int]] = []

    def count(context: dg.AssetCheckExecutionContext, day: int) -> None:
        in_files = evaluated_days(home / "runs")
        history = context.instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=100)
        answered = sum(record.status is not AssetCheckExecutionRecordStatus.PLANNED for record in history)
        seen.append((in_files - before, answered - before))
        assert context.instance.get_materialized_partitions(ASSET) == set(DAY_KEYS)

    assert run(instance, count).success
    assert seen == [(day, day + 1) for day in range(len(DAY_KEYS))]  # held back until it was asked for


@pytest.mark.usefixtures("no_timer")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_broken_run_loses_nothing(instance: dg.DagsterInstance, home: Path, error: type[BaseException]) -> None:
    before = evaluated_days(home / "runs")

    def fail(_: dg.AssetCheckExecutionContext, day: int) -> None:
        if day == 2:
            assert evaluated_days(home / "runs") == before
            raise error

    with suppress(KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        assert not run(instance, fail).success
    assert evaluated_days(home / "runs") == before + 3


@pytest.mark.usefixtures("no_timer")
def test_what_steps_say_is_written_together(events: list[dg.EventLogEntry], base_dir: Path) -> None:
    run_id = events[0].run_id
    of_steps = [e for e in events if e.run_id == run_id and e.step_key and not event_log.is_of_an_asset(e)]
    of_steps = [e for e in of_steps if event_log._is_buffered(e)]
    assert len(of_steps) > 10
    storage = BatchingSqliteEventLogStorage(str(base_dir))
    store_all(storage, of_steps)
    assert not (base_dir / f"{run_id}.db").exists()
    assert len(storage.get_records_for_run(run_id).records) == len(of_steps)


@pytest.mark.usefixtures("no_timer")
def test_dispose_writes(events: list[dg.EventLogEntry], base_dir: Path) -> None:
    storage = BatchingSqliteEventLogStorage(str(base_dir))
    store_all(storage, day_events(events))
    assert evaluated_days(base_dir) == 0
    storage.dispose()
    assert evaluated_days(base_dir) == len(DAY_KEYS)


@pytest.mark.usefixtures("no_timer")
def test_the_end_of_the_process_writes(events: list[dg.EventLogEntry], base_dir: Path) -> None:
    child = os.fork()
    if child == 0:
        atexit._clear()  # what pytest and others registered is for its own process
        store_all(BatchingSqliteEventLogStorage(str(base_dir)), day_events(events))
        atexit._run_exitfuncs()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert evaluated_days(base_dir) == len(DAY_KEYS)


def test_a_quiet_process_writes_soon(
    events: list[dg.EventLogEntry], base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "MAX_BUFFERED_SECONDS", 0.2)
    storage = BatchingSqliteEventLogStorage(str(base_dir))
    store_all(storage, day_events(events))
    deadline = time.monotonic() + 10
    while evaluated_days(base_dir) < len(DAY_KEYS) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert evaluated_days(base_dir) == len(DAY_KEYS)


@pytest.mark.usefixtures("no_timer")
def test_a_forked_child_leaves_its_parents_events_alone(events: list[dg.EventLogEntry], base_dir: Path) -> None:
    storage = BatchingSqliteEventLogStorage(str(base_dir))
    store_all(storage, day_events(events))
    child = os.fork()
    if child == 0:
        storage.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert evaluated_days(base_dir) == 0
    storage.flush()
    assert evaluated_days(base_dir) == len(DAY_KEYS)


@pytest.mark.usefixtures("no_timer")
def test_a_failed_write_is_tried_again(
    events: list[dg.EventLogEntry], base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = BatchingSqliteEventLogStorage(str(base_dir))
    held_back = day_events(events)
    store_all(storage, held_back)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "_store_asset_event", Mock(side_effect=sqlite3.OperationalError))
        with pytest.raises(sqlite3.OperationalError):
            storage.get_materialized_partitions(ASSET)
    assert evaluated_days(base_dir) == 0
    assert storage.get_materialized_partitions(ASSET) == set(DAY_KEYS)
    assert len(storage.get_records_for_run(events[0].run_id).records) == len(held_back)


# --- Postgres ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own; the address of its database."""
    with ExitStack() as ends:
        yield start_postgres(tmp_path_factory.mktemp("postgres") / "data", ends)


@pytest.fixture
def database(postgres: str) -> str:
    """The address of that database, emptied."""
    empty(postgres)
    return postgres


def empty(address: str) -> None:
    with closing(create_engine(address, isolation_level="AUTOCOMMIT").connect()) as conn:
        conn.execute(text("DROP SCHEMA public CASCADE"))
        conn.execute(text("CREATE SCHEMA public"))


def rows_in_postgres(address: str) -> dict[str, list[Any]]:
    """Everything in the tables but the times at which rows were made, and numbers that an upsert skips."""
    with closing(create_engine(address).connect()) as conn:
        found = {name: conn.execute(text(f"SELECT * FROM {name} ORDER BY id")).mappings().all() for name in STORED}
    left_out = {name: {"create_timestamp", *(["id"] if name in UPSERTED else [])} for name in STORED}
    return {
        name: [{key: value for key, value in row.items() if key not in left_out[name]} for row in rows]
        for name, rows in found.items()
    }


@pytest.mark.services
@pytest.mark.usefixtures("no_timer")
def test_postgres_has_the_rows_and_answers_of_the_plain_storage(
    events: list[dg.EventLogEntry], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "MAX_BUFFERED_EVENTS", 7)
    run_ids = list(dict.fromkeys(event.run_id for event in events))
    answered: dict[type[SqlEventLogStorage], dict[str, Any]] = {}
    rows = {}
    for storage_class in (PostgresEventLogStorage, BatchingPostgresEventLogStorage):
        empty(postgres)
        storage = storage_class(postgres)
        store_all(storage, events)
        found = answers(storage, run_ids)
        answered[storage_class] = {name: found[name] for name in found.keys() - OF_UPSERTED}
        rows[storage_class] = rows_in_postgres(postgres)
        storage.dispose()
    assert answered[PostgresEventLogStorage]["partitions"] == set(DAY_KEYS)
    assert answered[BatchingPostgresEventLogStorage] == answered[PostgresEventLogStorage]
    assert rows[BatchingPostgresEventLogStorage] == rows[PostgresEventLogStorage]


@pytest.mark.services
def test_a_lakehouse_with_postgres_keeps_all_its_records_there(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", database)
    home = dagster_home(load_settings(home=tmp_path))
    assert database not in (home / "dagster.yaml").read_text()
    seen: list[int] = []

    def count(context: dg.AssetCheckExecutionContext, day: int) -> None:
        history = context.instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=100)
        seen.append(sum(record.status is not AssetCheckExecutionRecordStatus.PLANNED for record in history))

    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert isinstance(instance.event_log_storage, BatchingPostgresEventLogStorage)
        assert isinstance(instance.run_storage, PostgresRunStorage)
        assert run(instance, count).success
        with dg.DagsterInstance.from_ref(instance.get_ref()) as in_other_process:
            assert in_other_process.get_materialized_partitions(ASSET) == set(DAY_KEYS)
            assert in_other_process.get_runs_count() == 1
    assert seen == [day + 1 for day in range(len(DAY_KEYS))]
    assert not list(tmp_path.rglob("*.db"))
