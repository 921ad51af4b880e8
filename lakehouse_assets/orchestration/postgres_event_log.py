"""Dagster's event log in Postgres, in batches as the one in SQLite."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from dagster import EventLogEntry
from dagster_postgres import PostgresEventLogStorage
from dagster_postgres.utils import create_pg_engine, pg_url_from_config
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.engine import Connection

from lakehouse_assets.orchestration.dagster_internals import (
    AssetCheckExecutionsTable,
    ConfigurableClassData,
    SqlEventLogStorageTable,
)
from lakehouse_assets.orchestration.event_log import BatchingEventLogStorage, is_of_an_asset


class BatchingPostgresEventLogStorage(BatchingEventLogStorage, PostgresEventLogStorage):
    """`PostgresEventLogStorage` in batches, over a connection that is kept; the parent logs in three times an event."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._begin_batching()
        self._db_lock = threading.RLock()
        super().__init__(postgres_url, inst_data=inst_data)
        self._engine = create_pg_engine(
            postgres_url,
            isolation_level="AUTOCOMMIT",  # the parent's
            pool_size=1,
            max_overflow=-1,  # threads that read at once wait for nobody
            pool_pre_ping=True,  # after a restart of the server a new connection is made
        )

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """Overridden because the parent names its own class here."""
        return cls(pg_url_from_config(config_value), inst_data)

    def _write(self, events: Sequence[EventLogEntry], rows: Sequence[dict[str, Any]]) -> None:
        stored = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        with super()._connect() as connection:
            conn = connection.execution_options(isolation_level="READ COMMITTED")
            with conn.begin():
                event_ids = list(conn.execute(stored, rows).scalars())
                stored_now = zip(events, rows, event_ids, strict=True)
                if of_assets := [one for one in stored_now if is_of_an_asset(one[0])]:
                    self._store_in_index(conn, *zip(*of_assets, strict=True))

    def _insert_check(self) -> Insert:
        return insert(AssetCheckExecutionsTable)

    def _forget_connections(self, *, close: bool = True) -> None:
        self._engine.dispose(close=close)

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        """Every read and every other write comes through here, and must find all earlier events in the database."""
        self.flush()
        with super()._connect() as conn:
            yield conn
