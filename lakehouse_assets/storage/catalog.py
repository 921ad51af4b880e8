"""The Iceberg catalog: where tables are, their snapshots and their stamps. Metadata only, no Spark needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar, cast

from pyiceberg.catalog import Catalog as PyIcebergCatalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, NoSuchTableError
from pyiceberg.io import PY_IO_IMPL, S3_ENDPOINT, S3_REGION, FileIO
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.transforms import MonthTransform
from pyiceberg.typedef import Identifier
from pyiceberg.types import (
    BooleanType,
    DateType,
    DoubleType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)
from sqlalchemy import URL, bindparam, event, select
from sqlalchemy.exc import OperationalError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.catalog_errors import CatalogError, CatalogLocked, CatalogUnreachable
from lakehouse_assets.storage.file_io import StoreFileIO
from lakehouse_assets.storage.locks import one_at_a_time
from lakehouse_assets.storage.moving import settle
from lakehouse_assets.storage.place import sqlite_file
from lakehouse_assets.storage.s3 import Store

CATALOG = "lake"
_STAMPS = "lakehouse.stamps."
_KEPT_FROM = "lakehouse.kept-from"
_SETTINGS = "lakehouse.settings"
_ALTER_ATTEMPTS = 50
Altered = TypeVar("Altered")
_LIVE_FILES: dict[str, Sequence[DataFile]] = {}  # by the manifest that names them, and by the list of manifests
_MOST_KEPT = 100_000  # files, 0.2 GB

_TYPES: Mapping[str, IcebergType] = {
    "string": StringType(),
    "bigint": LongType(),
    "double": DoubleType(),
    "date": DateType(),
    "timestamp": TimestamptzType(),
    "boolean": BooleanType(),
}

_TABLE_PROPERTIES = {
    "format-version": "2",
    # the writer divides the rows as they are stored
    "write.distribution-mode": "none",
    "write.spark.fanout.enabled": "true",
    "write.parquet.compression-codec": "zstd",
    # with 16 writers a quarter of the commits failed at the default of 4
    "commit.retry.num-retries": "50",
    "commit.retry.min-wait-ms": "50",
    "commit.retry.max-wait-ms": "2000",
    # many small files go into one read task
    "read.split.open-file-cost": "65536",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}


NO_ANSWER = (CatalogUnreachable, CommitStateUnknownException)


class EmbeddedCatalog(SqlCatalog):
    """The catalog of a folder, asked for every table hundreds of times a run.

    Where a table's metadata is, is asked for each time; a metadata file is read once, as none is ever changed.
    """

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        self._read: dict[Identifier, tuple[tuple[str, int], TableMetadata]] = {}
        where = select(IcebergTables.metadata_location).where(  # put together once, as it takes longer than asking
            IcebergTables.catalog_name == self.name,
            IcebergTables.table_namespace == bindparam("namespace"),
            IcebergTables.table_name == bindparam("table"),
        )
        only_tables = self._iceberg_type_filter()
        self._where = where if only_tables is None else where.where(only_tables)

    def load_table(self, identifier: str | Identifier) -> IcebergTable:
        """The table as it is now; as the parent, which builds an object of the database's row and reads the file anew.

        Raises:
            NoSuchTableError: there is none of that name.
        """
        namespace, name = self.namespace_from(identifier), self.table_name_from(identifier)
        wanted = {"namespace": self.namespace_to_string(namespace), "table": name}
        with self.engine.connect() as connection:
            location = connection.execute(self._where, wanted).scalar()
        if not location:
            raise NoSuchTableError(f"Table does not exist: {'.'.join((*namespace, name))}")
        key = (*namespace, name)
        file = self._load_file_io(location=location).new_input(location)
        seen = location, len(file)  # so that one that is gone or cut is missed
        read = self._read.get(key)  # taken once: another thread may put in what it has read of an older version
        if read is None or read[0] != seen:
            try:
                read = self._read[key] = seen, FromInputFile.table_metadata(file)
            except Exception as error:  # whatever a damaged file makes; it does not say which file it was
                error.add_note(location)
                raise
        metadata = read[1]
        return IcebergTable(key, metadata, location, self._load_file_io(metadata.properties, location), self)


class Catalog:
    """Tables by name (``layer.table``) in one Iceberg catalog."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._catalog: PyIcebergCatalog | None = None

    @property
    def iceberg(self) -> PyIcebergCatalog:
        """The open PyIceberg catalog.

        Raises:
            CatalogError: the folder can't be written or the catalog can't be reached.
            WrongPlace: the tables are another lakehouse's, or not where the settings say.
        """
        if self._catalog is None:
            self._catalog = self._open()
        return self._catalog

    def _open(self) -> PyIcebergCatalog:
        settings = self.settings
        properties = {"warehouse": settings.warehouse_uri}
        if on_s3(settings.warehouse_uri):
            Store(settings).check(settings.warehouse_uri)
            properties |= {
                PY_IO_IMPL: f"{StoreFileIO.__module__}.{StoreFileIO.__name__}",
                S3_REGION: settings.s3_region,
                S3_ENDPOINT: settings.s3_endpoint,
            }
        if settings.catalog_uri:
            from lakehouse_assets.storage.rest_catalog import open_rest_catalog

            return open_rest_catalog(CATALOG, properties | rest_properties(settings))
        try:
            settings.home_path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CatalogError(
                f"LAKEHOUSE_HOME={settings.home_path} can't be created ({error.strerror}); choose a writable folder"
            ) from None
        # an address put together as a text would read another folder where the path has a % or a ?
        uri = URL.create(
            "sqlite", database=str(sqlite_file(settings)), query={"timeout": str(settings.lock_timeout_seconds)}
        )
        try:
            with one_at_a_time(settings.home_path):
                catalog = EmbeddedCatalog(CATALOG, **{**properties, "uri": cast("str", uri)})
                settle(settings, catalog.engine)
        except OperationalError as error:
            self._name_the_lock(error)
            raise
        event.listen(catalog.engine, "handle_error", lambda failure: self._name_the_lock(failure.original_exception))
        return catalog

    def _name_the_lock(self, error: BaseException | None) -> None:
        name_lock(error, self.settings)

    @property
    def _is_missing(self) -> bool:
        """Whether there is no catalog yet: who only looks does not make one, as the folder may be a mistyped one."""
        settings = self.settings
        there = settings.catalog_uri or sqlite_file(settings).exists() or settings.home_path.is_file()
        return self._catalog is None and not there

    def names(self) -> list[str]:
        """Names of all tables that exist."""
        if self._is_missing:
            return []
        return sorted(
            ".".join(pair) for space in self.iceberg.list_namespaces() for pair in self.iceberg.list_tables(space)
        )

    def load(self, name: str) -> IcebergTable | None:
        """A table as it is now, or None."""
        if self._is_missing:
            return None
        try:
            return self.iceberg.load_table(name)
        except NoSuchTableError:
            return None

    def alter(self, name: str, change: Callable[[IcebergTable], Altered]) -> Altered:
        """Commit a change of a table's metadata; if another commit came first, repeat it on the new state.

        PyIceberg repeats only commits that change rows.

        Raises:
            CommitFailedException: others came first every time.
        """
        patiently = Retrying(
            retry=retry_if_exception_type(CommitFailedException),
            stop=stop_after_attempt(_ALTER_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.05, max=2),
            reraise=True,
        )
        return patiently(lambda: change(self.iceberg.load_table(name)))

    def remove_branch(self, name: str, branch: str) -> int | None:
        """Remove a table's branch; the snapshot it was at, or None where it is gone already."""

        def remove(table: IcebergTable) -> int | None:
            if branch not in table.refs():
                return None
            head = table.refs()[branch].snapshot_id
            table.manage_snapshots().remove_branch(branch).commit()
            return head

        return self.alter(name, remove)

    def ensure(self, name: str, columns: Mapping[str, str], partition_column: str) -> IcebergTable:
        """A table as it is now; created if it is not there, and given the columns it lacks.

        One whose days go by another column was laid out by an earlier version of this project. Its days could not be
        told from each other any more, and all of them follow from landing, so it is made anew and they are computed.
        A partition by any further column is ended: it made the values of users' files names of folders. Files written
        before stay where they are until their month is written again.

        Args:
            name: ``layer.table``.
            columns: Spark type name by column, in order.
            partition_column: date column; storage is partitioned by its month, days are found by file statistics.
        """
        table = self.load(name)
        if table and table.schema().find_column_name(table.spec().fields[0].source_id) != partition_column:
            self.iceberg.drop_table(name)
            table = None
        if table is None:
            fields = [NestedField(i, column, _TYPES[kind]) for i, (column, kind) in enumerate(columns.items(), start=1)]
            ids = {field.name: field.field_id for field in fields}
            month = PartitionField(ids[partition_column], 1000, MonthTransform(), f"{partition_column}_month")
            self.iceberg.create_namespace_if_not_exists(name.split(".")[0])
            table = self.iceberg.create_table_if_not_exists(
                name, Schema(*fields), partition_spec=PartitionSpec(month), properties=_TABLE_PROPERTIES
            )
            if table.current_snapshot() is None:  # a branch needs a snapshot to start from
                with table.transaction() as transaction, transaction.update_snapshot().fast_append():
                    pass
        if len(table.spec().fields) > 1:
            table = self.alter(name, _partition_by_month_only)
        lacking = {column: kind for column, kind in columns.items() if column not in table.schema().column_names}
        if lacking:
            with table.update_schema() as update:
                for column, kind in lacking.items():
                    update.add_column(column, _TYPES[kind])
        return table

    def versions(self, names: Iterable[str]) -> dict[str, str]:
        """The current metadata file of each table; every commit changes it."""
        return {name: table.metadata_location for name in names if (table := self.load(name))}

    def snapshot_id(self, name: str) -> int | None:
        """The current snapshot of a table, or None without table."""
        table = self.load(name)
        snapshot = table.current_snapshot() if table else None
        return snapshot.snapshot_id if snapshot else None

    def stamps(self, name: str) -> dict[date, str]:
        """The stamp of each computed day of a table."""
        table = self.load(name)
        return {} if table is None else read_stamps(table)


def _partition_by_month_only(table: IcebergTable) -> IcebergTable:
    with table.update_spec() as update:
        for part in table.spec().fields[1:]:
            update.remove_field(part.name)
    return table


def name_lock(error: BaseException | None, settings: Settings) -> None:
    """Raise a clear error if the cause is that another process holds the embedded catalog's database.

    Raises:
        CatalogLocked: it does; the message says what to do.
    """
    if "database is locked" in str(error):
        raise CatalogLocked(
            f"{sqlite_file(settings)} is locked by another process for more than {settings.lock_timeout_seconds} s; "
            "run again when it has ended, or wait longer with LAKEHOUSE_LOCK_TIMEOUT_SECONDS"
        ) from error


def rest_properties(settings: Settings) -> dict[str, str]:
    """Properties of the REST catalog for PyIceberg and Spark."""
    properties = {"uri": settings.catalog_uri, "warehouse": settings.catalog_name or settings.warehouse_uri}
    # the lakehouse's keys reach its bucket by themselves; a catalog is not asked for others
    properties["header.X-Iceberg-Access-Delegation"] = ""
    credential = settings.catalog_credential.get_secret_value()
    if credential:
        properties |= {
            "credential": credential,
            "scope": "PRINCIPAL_ROLE:ALL",
            "oauth2-server-uri": f"{settings.catalog_uri.rstrip('/')}/v1/oauth/tokens",
        }
    return properties


def kind_of(table: IcebergTable, column: str) -> str:
    """Spark's name of a column's type."""
    found = table.schema().find_field(column).field_type
    return next(kind for kind, of_iceberg in _TYPES.items() if of_iceberg == found)


def read_stamps(table: IcebergTable) -> dict[date, str]:
    """The stamps of a loaded table by day."""
    found = {}
    for key, value in table.properties.items():
        if key.startswith(_STAMPS):
            month = key.removeprefix(_STAMPS)
            found.update({date.fromisoformat(f"{month}-{day}"): stamp for day, stamp in json.loads(value).items()})
    return found


def set_stamps(transaction: Transaction, table: IcebergTable, days: Iterable[date], stamps: Mapping[date, str]) -> None:
    """Put the stamps of days into a transaction, together with their rows. Days without a new stamp lose theirs."""
    months: dict[str, dict[str, str]] = {}
    for day in days:
        month = day.isoformat()[:7]
        of_month = months.setdefault(month, json.loads(table.properties.get(_STAMPS + month, "{}")))
        of_month.pop(day.isoformat()[8:], None)
        if day in stamps:
            of_month[day.isoformat()[8:]] = stamps[day]
    transaction.set_properties({_STAMPS + month: json.dumps(of, sort_keys=True) for month, of in months.items()})


def read_settings(table: IcebergTable) -> dict[str, Any]:
    """The settings that some days of a loaded table were last computed with; empty where none are recorded."""
    found: dict[str, Any] = json.loads(table.properties.get(_SETTINGS, "{}"))
    return found


def set_settings(transaction: Transaction, table: IcebergTable, settings: Mapping[str, Any]) -> None:
    """Put the settings that days are computed with into a transaction; they are shown to people only."""
    written = json.dumps(settings, sort_keys=True, default=str)
    if table.properties.get(_SETTINGS) != written:
        transaction.set_properties({_SETTINGS: written})


def kept_from(table: IcebergTable) -> date | None:
    """The first day of a loaded table that cleanup has kept; None when it never dropped one."""
    recorded = table.properties.get(_KEPT_FROM)
    return date.fromisoformat(recorded) if recorded else None


def forget_stamps(transaction: Transaction, table: IcebergTable, first_kept: date) -> None:
    """Put into a transaction that days before ``first_kept`` are dropped: their stamps gone, and the day on record."""
    month, day = first_kept.isoformat()[:7], first_kept.isoformat()[8:]
    earlier = [key for key in table.properties if key.startswith(_STAMPS) and key < _STAMPS + month]
    stamps = json.loads(table.properties.get(_STAMPS + month, "{}"))
    left = {other: stamp for other, stamp in stamps.items() if other >= day}
    transaction.remove_properties(*earlier)
    transaction.set_properties({_STAMPS + month: json.dumps(left, sort_keys=True), _KEPT_FROM: first_kept.isoformat()})


def forget_days(transaction: Transaction, table: IcebergTable, days: Collection[date]) -> None:
    """Remove the stamps of days in a transaction, so that they are computed again."""
    left = {day: stamp for day, stamp in read_stamps(table).items() if day not in days}
    for month in {day.isoformat()[:7] for day in days}:
        stamps = {day.isoformat()[8:]: stamp for day, stamp in left.items() if day.isoformat()[:7] == month}
        transaction.set_properties({_STAMPS + month: json.dumps(stamps, sort_keys=True)})


def keep_from(transaction: Transaction, first_kept: date) -> None:
    """Record in a transaction that days before ``first_kept`` must not be computed any more."""
    transaction.set_properties({_KEPT_FROM: first_kept.isoformat()})


def head_of(table: IcebergTable, branch: str = "main") -> int:
    """The snapshot a branch points to; every table is made with one."""
    snapshot = table.metadata.snapshot_by_name(branch)
    assert snapshot is not None
    return snapshot.snapshot_id


def files_overlapping(
    table: IcebergTable, column: str, first: date, last: date, files: Sequence[DataFile] | None = None
) -> dict[str, tuple[DataFile, date, date]]:
    """Data files by path whose days may touch ``first`` … ``last``, with their own first and last day.

    Args:
        table: the table.
        column: the day's.
        first: first day.
        last: last day.
        files: among which to look; default the table's live files.
    """
    found = {}
    for file in live_files(table) if files is None else files:
        low, high = days_in_file(table, column, file)
        if low <= last and high >= first:
            found[file.file_path] = (file, low, high)
    return found


def live_files(table: IcebergTable) -> Sequence[DataFile]:
    """The data files of a table's current snapshot; each manifest is read once, as none is ever changed."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return ()

    def of_all() -> Sequence[DataFile]:
        return [file for manifest in snapshot.manifests(table.io) for file in _files_of(manifest, table.io)]

    return _kept(snapshot.manifest_list, of_all)


def _files_of(manifest: ManifestFile, io: FileIO) -> Sequence[DataFile]:
    return _kept(manifest.manifest_path, lambda: [entry.data_file for entry in manifest.fetch_manifest_entry(io)])


def _kept(path: str, read: Callable[[], Sequence[DataFile]]) -> Sequence[DataFile]:
    files = _LIVE_FILES.get(path)
    if files is None:
        files = read()
        if sum(map(len, [*_LIVE_FILES.values()])) + len(files) > _MOST_KEPT:  # a copy: another thread may add some
            _LIVE_FILES.clear()
        _LIVE_FILES[path] = files
    return files


def days_in_file(table: IcebergTable, column: str, file: DataFile) -> tuple[date, date]:
    """The first and last day in a data file, by its statistics."""
    field_id = table.schema().find_field(column).field_id
    return _as_date(file.lower_bounds[field_id]), _as_date(file.upper_bounds[field_id])


def newest(table: IcebergTable, column: str) -> datetime | None:
    """The last instant in a column, by the statistics of the table's files; None if there are no rows."""
    field_id = table.schema().find_field(column).field_id
    bounds = [int(from_bytes(TimestamptzType(), file.upper_bounds[field_id])) for file in live_files(table)]
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=max(bounds)) if bounds else None


def _as_date(bound: bytes) -> date:
    return date(1970, 1, 1) + timedelta(days=int(from_bytes(DateType(), bound)))
