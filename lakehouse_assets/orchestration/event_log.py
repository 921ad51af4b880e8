"""Dagster's event logs, made fast enough for runs that write thousands of per-partition events."""

import atexit
import os
import sqlite3
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from importlib.metadata import version
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self, cast

from dagster import AssetCheckEvaluation, AssetKey, DagsterEvent, DagsterEventType, EventLogEntry
from sqlalchemy import create_engine, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.event import listen

from lakehouse_assets.cache import made_once
from lakehouse_assets.orchestration.dagster_internals import (
    INDEX_SHARD_NAME,
    SQLITE_BUSY_TIMEOUT_SECONDS,
    AssetCheckEvaluationPlanned,
    AssetCheckExecutionRecordStatus,
    AssetCheckExecutionsTable,
    AssetMaterializationPlannedData,
    ConfigurableClassData,
    SqlEventLogStorage,
    SqlEventLogStorageTable,
    SqliteEventLogStorage,
    StepMaterializationData,
)
from lakehouse_assets.orchestration.event_texts import EventTexts

MAX_BUFFERED_EVENTS = 500
MAX_BUFFERED_SECONDS = 1.0

# by the names that events have them by: Dagster looks the type up anew each time that an event is asked for it
STEP_EVENTS = {
    kind.value
    for kind in (
        DagsterEventType.ENGINE_EVENT,
        DagsterEventType.HANDLED_OUTPUT,
        DagsterEventType.LOADED_INPUT,
        DagsterEventType.RESOURCE_INIT_STARTED,
        DagsterEventType.RESOURCE_INIT_SUCCESS,
        DagsterEventType.STEP_INPUT,
        DagsterEventType.STEP_OUTPUT,
        DagsterEventType.STEP_SKIPPED,
        DagsterEventType.STEP_START,
        DagsterEventType.STEP_SUCCESS,
    )
}
MATERIALIZED = DagsterEventType.ASSET_MATERIALIZATION.value
PLANNED = DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value
CHECKED = DagsterEventType.ASSET_CHECK_EVALUATION.value
CHECK_PLANNED = DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value

ROW_COLUMNS = ("run_id", "event", "dagster_event_type", "timestamp", "step_key", "asset_key", "partition")
_INSERT = str(SqlEventLogStorageTable.insert().compile(dialect=sqlite.dialect(), column_keys=ROW_COLUMNS))
CHECK_ROW_KEY = ["asset_key", "check_name", "run_id", "partition"]  # unique, as partitioned run events have no nulls
CHECK_COLUMNS = (
    "execution_status",
    "evaluation_event",
    "evaluation_event_timestamp",
    "evaluation_event_storage_id",
    "materialization_event_storage_id",
)


class _Buffered(NamedTuple):
    event: EventLogEntry
    row: dict[str, Any]


class BatchingEventLogStorage(SqlEventLogStorage):
    """Writes the events of a run in batches.

    A run of a day has hundreds of them, one over a year of daily partitions thousands; Dagster's storages open
    connections and transactions several times for each. Here those of its steps and partitions are held back and
    written by one transaction per database; one that changes a run's status goes the parent's way.

    Tables and rows are the parent's, so both classes can read and write the same database. Whatever reads or writes
    through this object first writes what is held back, so nobody in this process can tell the difference. Other
    processes see an event at most about `MAX_BUFFERED_SECONDS` late, and that is also all a killed process loses.
    """

    _db_lock: Any  # an RLock: a flush holds it while it connects

    def _begin_batching(self) -> None:
        self._buffer: list[_Buffered] = []
        self._there: set[str] = set()  # tables, columns and secondary indexes that were found
        self._texts = EventTexts()
        self._writing = False
        self._owner_pid = os.getpid()

    def store_event(self, event: EventLogEntry) -> None:
        """Hold back an event within a run, store any other one at once (and by that all held back before it)."""
        if not _is_buffered(event):
            super().store_event(event)
            return
        # serialized now, so that an event that cannot be serialized fails where it came from
        buffered = _Buffered(event, self._event_to_row(event))
        with self._db_lock:
            self._drop_what_belongs_to_the_parent_process()
            if self._buffer and self._buffer[0].event.run_id != event.run_id:
                self.flush()
            self._buffer.append(buffered)
            if len(self._buffer) >= MAX_BUFFERED_EVENTS:
                self.flush()
            elif len(self._buffer) == 1:
                self._flush_later()

    def _event_to_row(self, event: EventLogEntry) -> dict[str, Any]:
        """As the parent's, which takes every event apart anew."""
        happened = event.dagster_event
        key, partition = _asset_and_partition(happened) if happened else (None, None)
        return {
            "run_id": event.run_id,
            "event": self._texts.text(event),
            "dagster_event_type": happened.event_type_value if happened else None,
            "timestamp": self._event_insert_timestamp(event),
            "step_key": happened.step_key if happened else event.step_key,
            "asset_key": key.to_string() if key else None,
            "partition": partition,
        }

    def flush(self) -> None:
        """Write the held back events; they stay held back when that fails, so the next call tries again."""
        if not self._buffer:
            return
        with self._db_lock:
            self._drop_what_belongs_to_the_parent_process()
            if not self._buffer or self._writing:  # the parent's methods that write the index may read as well
                return
            self._writing = True
            try:
                self._write([b.event for b in self._buffer], [b.row for b in self._buffer])
            finally:
                self._writing = False
            self._buffer.clear()
            self._timer.cancel()
            atexit.unregister(self.flush)

    def has_secondary_index(self, name: str) -> bool:
        """Asked until it is there: Dagster asks at each look at an asset, three times in a step."""
        return self._found(f"index {name}", partial(super().has_secondary_index, name))

    def has_asset_key_col(self, column_name: str) -> bool:
        """As often asked."""
        return self._found(f"column {column_name}", partial(super().has_asset_key_col, column_name))

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        ask = partial(super()._has_asset_key_col_on_connection, conn, column_name)
        return self._found(f"column {column_name}", ask)

    def _found(self, what: str, ask: Callable[[], bool]) -> bool:
        if what not in self._there and ask():
            self._there.add(what)
        return what in self._there

    def wipe(self) -> None:
        """Write first: what is held back belongs to what is wiped."""
        self.flush()
        super().wipe()
        self._forget_connections()

    def dispose(self) -> None:
        """Write what is held back before the instance goes away."""
        self.flush()
        super().dispose()
        self._forget_connections()

    @abstractmethod
    def _write(self, events: Sequence[EventLogEntry], rows: Sequence[dict[str, Any]]) -> None:
        """Store events of one run by one transaction per database."""

    @abstractmethod
    def _forget_connections(self, *, close: bool = True) -> None:
        """Let go of kept connections; those of a forked child are its parent's to close."""

    @abstractmethod
    def _insert_check(self) -> Any:
        """The database's own insert into the table of checks, which has `on_conflict_do_update`."""

    def _flush_later(self) -> None:
        """Bound the time events are held back, also when the process goes quiet, and never lose them at its exit."""
        self._timer = threading.Timer(MAX_BUFFERED_SECONDS, self.flush)
        self._timer.daemon = True
        self._timer.start()
        atexit.register(self.flush)

    def _drop_what_belongs_to_the_parent_process(self) -> None:
        """A forked child inherits a copy of the buffer that its parent will write, and connections it must not use."""
        if self._owner_pid != os.getpid():
            self._owner_pid = os.getpid()
            self._buffer.clear()
            self._forget_connections(close=False)

    def _store_in_index(
        self,
        conn: Connection,
        events: Sequence[EventLogEntry],
        rows: Sequence[dict[str, Any]],
        event_ids: Sequence[int],
    ) -> None:
        """What the parent's `store_event` does per event of an asset or a check beside storing it."""
        kinds = [row["dagster_event_type"] for row in rows]
        made = [place for place, kind in enumerate(kinds) if kind == MATERIALIZED]  # of these only some have tags
        self._store_asset_event_tags(conn, [events[place] for place in made], [event_ids[place] for place in made])

        # each event overwrites what an earlier one of its asset and type left, so the last one is enough
        last: dict[tuple[str, str], tuple[EventLogEntry, int]] = {}
        planned_rows, check_rows = [], []
        for event, event_id, row, kind in zip(events, event_ids, rows, kinds, strict=True):
            if kind == CHECKED:
                check_rows.append(_check_row(event, event_id, row))
            elif kind == CHECK_PLANNED:
                planned_rows += _planned_check_rows(event, event_id, row)
            else:
                key = (row["asset_key"], kind)
                last.pop(key, None)
                last[key] = (event, event_id)
        for event, event_id in last.values():
            self._store_asset_event(conn, event, event_id)
        if planned_rows:
            conn.execute(AssetCheckExecutionsTable.insert(), planned_rows)
        if check_rows:
            insert = self._insert_check()
            columns = {name: insert.excluded[name] for name in CHECK_COLUMNS}
            conn.execute(insert.on_conflict_do_update(index_elements=CHECK_ROW_KEY, set_=columns), check_rows)


class BatchingSqliteEventLogStorage(BatchingEventLogStorage, SqliteEventLogStorage):
    """`SqliteEventLogStorage` in batches, over connections that are kept."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._begin_batching()
        self._engines: dict[str, Engine] = {}
        super().__init__(base_dir, inst_data)
        self._db_lock = threading.RLock()  # the parent's, but reentrant

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """Overridden because the parent names its own class here."""
        return cls(inst_data=inst_data, **config_value)

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        """As the parent's; a new index, which holds every run, has pages for several events instead of one for each.

        The parent imports 89 migrations to know the newest, for a new database twice; of one that is made it asks no
        more than whether it is of some version.
        """
        if for_index_shard:
            listen(engine, "connect", _make_large_pages)
        elif _is_made(engine):
            return
        super()._initdb(engine, for_index_shard)

    def has_table(self, table_name: str) -> bool:
        """Asked until it is there: the parent opens the database anew for it, with each materialization."""
        return self._found(f"table {table_name}", partial(SqliteEventLogStorage.has_table, self, table_name))

    def _write(self, events: Sequence[EventLogEntry], rows: Sequence[dict[str, Any]]) -> None:
        # entered second to be committed first, as the parent does: the index never has what the run's log lacks
        with self._open(INDEX_SHARD_NAME) as index_conn, self._open(events[0].run_id) as run_conn:
            stored = _as_stored(rows)
            run_conn.exec_driver_sql(_INSERT, stored)
            of_assets = [one for one in zip(events, rows, stored, strict=True) if is_of_an_asset(one[0])]
            if not of_assets:
                return
            events, rows, stored_of_assets = zip(*of_assets, strict=True)
            index_conn.exec_driver_sql(_INSERT, list(stored_of_assets))
            # SQLite numbers the rows of one transaction without gaps
            last_id = index_conn.execute(select(func.max(SqlEventLogStorageTable.c.id))).scalar_one()
            self._store_in_index(index_conn, events, rows, range(last_id - len(rows) + 1, last_id + 1))

    def _insert_check(self) -> sqlite.Insert:
        return sqlite.insert(AssetCheckExecutionsTable)

    def _forget_connections(self, *, close: bool = True) -> None:
        with self._db_lock:
            for engine in self._engines.values():
                engine.dispose(close=close)
            self._engines.clear()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """Every read and every other write comes through here, and must find all earlier events in the database."""
        self.flush()
        with self._open(shard) as conn:
            yield conn

    @contextmanager
    def _open(self, shard: str) -> Iterator[Connection]:
        """A transaction on one database, as the parent's, whose connection is kept for the next one.

        The parent makes an engine and a connection for every event. Here those of the index and of the newest run
        stay, so that a process that reads many runs does not collect open files.
        """
        with self._db_lock:
            self._drop_what_belongs_to_the_parent_process()
            if shard not in self._engines:
                for other in set(self._engines) - {INDEX_SHARD_NAME}:
                    self._engines.pop(other).dispose()
                self._engines[shard] = create_engine(
                    self.conn_string_for_shard(shard), connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
                )
                listen(self._engines[shard], "connect", _do_not_wait_for_the_disk)
            engine = self._engines[shard]
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as conn, conn.begin():
                yield conn


def _as_stored(rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows as SQLAlchemy would give them to SQLite, which looks every value's type up anew."""
    stamped = ({**row, "timestamp": row["timestamp"].isoformat(" ", "microseconds")} for row in rows)
    return [tuple(row[name] for name in ROW_COLUMNS) for row in stamped]


def _is_made(engine: Engine) -> bool:
    """Whether a database has its tables; an empty one gets those of a run, unless another process is at it."""
    with engine.connect() as connection:
        database = cast(sqlite3.Connection, connection.connection.driver_connection)
        with suppress(sqlite3.OperationalError):
            return database.execute("SELECT 1 FROM alembic_version").fetchone() is not None
        with suppress(sqlite3.OperationalError):
            database.executescript(made_once(f"dagster/run-{version('dagster')}.sql", _run_database))
            return True
        return False


def _run_database() -> str:
    """The database of a run without events, as SQL."""
    with TemporaryDirectory() as folder:
        storage = SqliteEventLogStorage(folder)
        with storage.run_connection("run"):
            pass
        with closing(sqlite3.connect(storage.path_for_shard("run"))) as made:
            return "\n".join(["PRAGMA journal_mode = WAL;", *made.iterdump()])


def _do_not_wait_for_the_disk(connection: Any, _: object) -> None:
    """A machine that loses its power may lose the last events, which no table goes by; the file stays whole."""
    connection.execute("PRAGMA synchronous = NORMAL")


def _make_large_pages(connection: Any, _: object) -> None:
    """Of a file that has none yet."""
    connection.execute("PRAGMA page_size = 16384")


def _is_buffered(event: EventLogEntry) -> bool:
    """Only events of a run wait: its next step or end event follows soon, which nothing promises for runless ones."""
    if not event.run_id:
        return False
    happened = event.dagster_event
    if happened is None:  # a line that was logged
        return True
    kind = happened.event_type_value
    if kind == CHECKED:
        return cast(AssetCheckEvaluation, happened.event_specific_data).partition is not None
    if kind in (MATERIALIZED, PLANNED):
        return _asset_and_partition(happened)[1] is not None
    return kind in STEP_EVENTS or kind == CHECK_PLANNED


def is_of_an_asset(event: EventLogEntry) -> bool:
    """Whether a buffered event is one that Dagster asks for by asset."""
    happened = event.dagster_event
    return happened is not None and happened.event_type_value in (MATERIALIZED, PLANNED, CHECKED, CHECK_PLANNED)


def _asset_and_partition(happened: DagsterEvent) -> tuple[AssetKey | None, str | None]:
    """The asset and the partition of a buffered event as its own properties say, which look its type up six times."""
    data = happened.event_specific_data
    if isinstance(data, StepMaterializationData):
        return data.materialization.asset_key, data.materialization.partition
    if isinstance(data, AssetMaterializationPlannedData):
        return data.asset_key, data.partition
    return None, None


def _planned_check_rows(event: EventLogEntry, event_id: int, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The parent's rows of `asset_check_executions` for a check that a run plans, from the already serialized event."""
    planned = cast(AssetCheckEvaluationPlanned, event.get_dagster_event().event_specific_data)
    of_check = {
        "asset_key": planned.asset_key.to_string(),
        "check_name": planned.check_name,
        "run_id": event.run_id,
        "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
        "evaluation_event": row["event"],
        "evaluation_event_timestamp": row["timestamp"],
        "evaluation_event_storage_id": event_id,
    }
    partitions = planned.partitions_subset.get_partition_keys() if planned.partitions_subset else [None]
    return [{**of_check, "partition": key} for key in partitions]


def _check_row(event: EventLogEntry, event_id: int, row: dict[str, Any]) -> dict[str, Any]:
    """The parent's row of `asset_check_executions` for an evaluation, from the already serialized event."""
    evaluation = cast(AssetCheckEvaluation, event.get_dagster_event().event_specific_data)
    status = AssetCheckExecutionRecordStatus.SUCCEEDED if evaluation.passed else AssetCheckExecutionRecordStatus.FAILED
    target = evaluation.target_materialization_data
    return {
        "asset_key": evaluation.asset_key.to_string(),
        "check_name": evaluation.check_name,
        "run_id": event.run_id,
        "partition": evaluation.partition,
        "execution_status": status.value,
        "evaluation_event": row["event"],
        "evaluation_event_timestamp": row["timestamp"],
        "evaluation_event_storage_id": event_id,
        "materialization_event_storage_id": target.storage_id if target else None,
    }
