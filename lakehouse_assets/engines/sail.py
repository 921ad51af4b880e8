"""Sail: a Spark Connect server in this process, without a JVM; rows are staged in files beside the table's own.

Nobody sees a file before a commit names it, so staging needs no branch. A process that stages longer than
`abandoned_hours` may not publish any more, as maintenance removes files of that age that no snapshot names.
"""

from __future__ import annotations

import atexit
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property, reduce
from operator import add
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import (
    PyArrowFileIO,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import Transaction
from pyiceberg.table.update import AssertRefSnapshotId
from pyiceberg.transforms import IdentityTransform
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.assets.division import DIVIDED, ORDER, PART, REPEATS
from lakehouse_assets.engines import door
from lakehouse_assets.engines.spark import embedded_spark_runs
from lakehouse_assets.engines.spill import own_folder
from lakehouse_assets.errors import SetupError
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.catalog import head_of
from lakehouse_assets.storage.data_files import DataFiles, DataFileWriter
from lakehouse_assets.storage.engine import OutOfMemory

CONNECT_MODE = "SPARK_CONNECT_MODE_ENABLED"  # PySpark's functions make Connect's columns while the environment has it
_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_EXHAUSTED = (
    "Resources exhausted",
    "Failed to allocate additional",
)  # Sail's message when its memory pool is exhausted
_CHANNEL = [
    # a connection that rests for half an hour is ended otherwise, and there would be no other
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
    # one bit, no compression: the server's gzip would cost more than the rows did, and they never leave this process
    ("grpc.compression_enabled_algorithms_bitset", 1),
]
_MET = "_met"  # one bit for each condition that a row meets
_BUFFERED_BYTES = 128 << 20  # rows held for their row groups
_MARGIN = timedelta(hours=1)  # by which the clocks of two machines, or a commit, may be late


def start_sail(settings: Settings) -> SparkSession:
    """The session of this process's server, started if there is none.

    Raises:
        SetupError: this process has started Spark, whose sessions can't be beside Sail's.
    """
    if embedded_spark_runs():
        raise SetupError("this process has started Spark, and Sail can't compute beside it; use a process for each")
    os.environ.update(sail_environment(settings))
    return _session()


def sail_runs() -> bool:
    """Whether Sail runs in this process."""
    return _session.cache_info().currsize > 0


@cache
def _session() -> SparkSession:
    """One session for the life of the process: its connection is the only one that the server has and takes."""
    from pyspark.sql.connect.client.core import DefaultChannelBuilder
    from pyspark.sql.connect.logging import logger
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    logger.setLevel("CRITICAL")  # what goes wrong is told by the client's exceptions
    host, port = _server().listening_address
    channel = DefaultChannelBuilder(f"sc://{host}:{port}", _CHANNEL)
    session = ConnectSession.builder.channelBuilder(channel).create()
    session.client.set_retry_policies([])  # the server is in this process: waiting for it would be useless
    session.client.disable_reattachable_execute()  # nor is it lost: each batch of rows would be acknowledged by a call
    session.conf.set("spark.sql.session.timeZone", "UTC")
    session.conf.set("spark.python.sql.dataFrameDebugging.enabled", "false")  # no line of code noted for every column
    door.shut(port)
    return cast("SparkSession", session)


def sail_environment(settings: Settings) -> dict[str, str]:
    """Environment variables that the server reads when it starts."""
    environment = {
        CONNECT_MODE: "1",
        "RUST_LOG": "off",
        # a child of this process only becomes another program; gRPC's care for it could end it before that
        "GRPC_ENABLE_FORK_SUPPORT": "0",
        # without a pool ten million rows took 16 GB; with one what does not fit is spilled, or is an error
        "SAIL_RUNTIME__MEMORY_POOL__TYPE": "fair",
        "SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE": str(_pool_bytes(settings)),
        # four times the default: a bulk of rows takes a tenth less processor time, a day the same
        "SAIL_EXECUTION__BATCH_SIZE": "32768",
        # its allocator gives memory back soon, and the kernel zeroes a huge page whole each time it is taken again
        "MIMALLOC_ALLOW_THP": "0",
        "SAIL_RUNTIME__TEMPORARY_FILES__PATHS": json.dumps([str(own_folder(settings.spill_path))]),
    }
    if on_s3(settings.warehouse_uri):
        environment |= _keys()
        environment["AWS_REGION"] = settings.s3_region
        if settings.s3_endpoint:
            environment["AWS_ENDPOINT"] = settings.s3_endpoint
            environment["AWS_ALLOW_HTTP"] = str(settings.s3_endpoint.startswith("http://")).lower()
    return environment


def _keys() -> dict[str, str]:
    """The keys of a profile, which Sail does not look for; a role's it does, and these would pass their time."""
    import boto3
    from botocore.credentials import RefreshableCredentials

    found = boto3.Session().get_credentials()
    if found is None or isinstance(found, RefreshableCredentials):
        return {}
    keys = {"AWS_ACCESS_KEY_ID": found.access_key, "AWS_SECRET_ACCESS_KEY": found.secret_key}
    return keys | ({"AWS_SESSION_TOKEN": found.token} if found.token else {})


def _pool_bytes(settings: Settings) -> int:
    """What Sail may hold: as much as the settings say, and not so much that two runs at once fill the machine."""
    return min(settings.driver_bytes, _machine_bytes() // 3)


def _machine_bytes() -> int:
    """Memory of this machine, or of this process's container."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # not there, or "max"
            limits.append(int(file.read_text()))
    return min(limits)


@cache
def _server() -> Any:
    """The server, kept for the life of the process: one that nothing refers to ends, and its clients wait for ever."""
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    atexit.register(server.stop)  # it removes its folder for what it spills
    return server


class SailEngine:
    """Computes with Sail and stages files."""

    name = "sail"
    stages_beside = True

    def __init__(self, settings: Settings, session: Callable[[], SparkSession]) -> None:
        """An engine.

        Args:
            settings: of the lakehouse.
            session: gives the session; asked for once, when it is first needed.
        """
        self._settings = settings
        self._start = session

    @cached_property
    def session(self) -> SparkSession:
        """The session of Spark Connect's client."""
        return self._start()

    def check(self) -> None:
        """It is a part of this process."""

    def begin_again(self) -> None:
        """It ends with this process alone."""

    def read(self, table: IcebergTable, files: Sequence[DataFile]) -> DataFrame:
        """The rows of these files, columns that came later null.

        Raises:
            OSError: a file is not there or not as long as it should be, which Sail would take for one without rows.
        """
        _check_whole(table, files)
        return self.session.read.schema(_spark_schema(table)).parquet(*[_address(file.file_path) for file in files])

    def divided(self, frame: DataFrame, parts: int, key: Sequence[str] = ()) -> DataFrame:
        """The rows of a write task in the same partition, in their order; or those of a key, sorted.

        Of sorted rows a group is done with its last row. All groups at once, as many as rows, would be spilled and read
        again, and sorted after that, as they are written in this order.
        """
        partitions = min(parts, os.cpu_count() or 1)
        if not key:
            return frame.repartition(partitions, PART)
        *_, day = divided_by = key[: len(DIVIDED) + 1]
        order = [PART, ORDER, *key[len(divided_by) :], day]  # that has the day, so nobody sorts by this column first
        return frame.repartition(partitions, *key).sortWithinPartitions(*order)

    def gathered(self, frame: DataFrame, *, one_task: bool) -> DataFrame:
        """The frame as it is: what is staged is sorted as a whole."""
        return frame

    def repeats_marked(self, rows: DataFrame, order: Sequence[str], key: Sequence[str]) -> DataFrame:
        """The rows as they are where equal keys will follow each other: `FileStaging` sees that.

        Elsewhere numbered in windows of a write task: one of each key would take longer than all the rest of a table.
        """
        if _follow_each_other(order, key):
            return rows
        by_key = Window.partitionBy(PART).orderBy(*key)
        return rows.withColumn(REPEATS, F.row_number().over(by_key) - F.rank().over(by_key) + 1)

    def stage(
        self,
        table: IcebergTable,
        rows: DataFrame,
        order: Sequence[str],
        conditions: Mapping[str, Column],
        key: Sequence[str] = (),
    ) -> FileStaging:
        """Write rows into a file for each write task."""
        # what the rows have is known: asking the server for their columns would take as long as computing a few of them
        seen = key if _follow_each_other(order, key) else ()
        counted = dict(conditions) | ({REPEATS: F.col(REPEATS) > 1} if key and not seen else {})
        staging = FileStaging(self, table, timedelta(hours=self._settings.abandoned_hours), seen)
        columns = table.schema().column_names
        bits = [F.when(met, F.lit(1 << bit)).otherwise(F.lit(0)) for bit, met in enumerate(counted.values())]
        met = reduce(add, bits, F.lit(0)).cast("bigint").alias(_MET)
        arranged = rows.sort(*dict.fromkeys([PART, *order])) if order else rows
        try:
            staging.write(_batches(arranged.select(*columns, _file_of_a_row(table), met)))
        except BaseException as error:
            staging.discard()
            if any(words in str(error) for words in _EXHAUSTED):
                raise OutOfMemory(
                    f"{'.'.join(table.name())} needs more than the {_pool_bytes(self._settings) >> 20:,} MB that Sail "
                    f"has (LAKEHOUSE_DRIVER_MEMORY={self._settings.driver_memory}, at most a third of the machine's)"
                ) from error
            raise
        if staging.files:
            staging.counted = staging.met(list(counted))
        return staging


class FileStaging:
    """Rows in files under the table's data folder that no snapshot names."""

    def __init__(
        self, engine: SailEngine, table: IcebergTable, abandoned_after: timedelta, key: Sequence[str] = ()
    ) -> None:
        self._engine = engine
        self._key = list(key)
        self._last_key: pa.Table | None = None
        self._repeats = 0
        self._table = table
        self._published_before = datetime.now(tz=UTC) + abandoned_after - _MARGIN
        self._writers: dict[str, DataFileWriter] = {}
        self._rows_by_met: dict[int, int] = {}
        self._base: int | None = None
        self.files: Sequence[DataFile] = ()
        self.counted: Mapping[str, int] = {}

    def write(self, batches: Iterator[pa.Table]) -> None:
        """Write rows, each into the file of its write task."""
        name, files = uuid.uuid4().hex, DataFiles(self._table)
        for batch in batches:
            if self._key and len(batch):  # a batch may be empty, as where a day has no rows
                self._count_repeats(batch.select(self._key))
            for pair in pc.value_counts(batch[_MET].combine_chunks()).to_pylist():
                self._rows_by_met[pair["values"]] = self._rows_by_met.get(pair["values"], 0) + pair["counts"]
            runs = pc.run_end_encode(batch[PART].combine_chunks())  # few, as rows come sorted by their task
            columns = batch.drop_columns([PART, _MET])
            start = 0
            for part, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
                if part not in self._writers:
                    self._writers[part] = files.begin(f"{name}-{len(self._writers):05}.parquet")
                self._writers[part].add(columns.slice(start, end - start))
                start = end
            while sum(writer.buffered_bytes for writer in self._writers.values()) > _BUFFERED_BYTES:
                max(self._writers.values(), key=lambda writer: writer.buffered_bytes).flush()
        with ThreadPoolExecutor(os.cpu_count()) as beside:  # encoding and compressing need no lock of Python's
            self.files = [*beside.map(DataFileWriter.finished, self._writers.values())]

    def _count_repeats(self, keys: pa.Table) -> None:
        """Count the rows whose key is that of the row before them."""
        keys = pa.concat_tables([self._last_key, keys]) if self._last_key else keys
        self._last_key = keys.slice(len(keys) - 1)
        same = pa.scalar(True)
        for column in reversed(keys.columns):  # what tells rows apart comes last
            before, after = column.slice(0, len(keys) - 1), column.slice(1)
            both_null = pc.and_(pc.is_null(before), pc.is_null(after))
            same = pc.and_(same, pc.coalesce(pc.equal(before, after), both_null))
            if not pc.any(same).as_py():
                return
        self._repeats += pc.sum(same).as_py()

    def met(self, conditions: Sequence[str]) -> dict[str, int]:
        """How many rows met each condition, and how many repeat a key if they come in its order."""
        found = {
            name: sum(rows for met, rows in self._rows_by_met.items() if met >> bit & 1)
            for bit, name in enumerate(conditions)
        }
        return found | ({REPEATS: self._repeats} if self._key else {})

    def rows(self) -> DataFrame:
        """Exactly the staged rows."""
        return self._engine.read(self._table, self.files)

    def is_abandoned(self, now: IcebergTable) -> bool:
        """Whether the files are about as old as those that maintenance removes."""
        return datetime.now(tz=UTC) > self._published_before

    def release(self, transaction: Transaction, now: IcebergTable) -> None:
        """The commit happens to the table as it was looked at, or not at all."""
        self._base = head_of(now)
        transaction._apply((), (AssertRefSnapshotId.model_validate({"ref": "main", "snapshot-id": self._base}),))

    def is_released(self, now: IcebergTable, wanted: int) -> bool:
        """The commit's snapshot is there; a commit without one can't be told."""
        return wanted != self._base and now.snapshot_by_id(wanted) is not None

    def discard(self) -> None:
        """Delete the files, also those begun."""
        for writer in self._writers.values():
            writer.discard()


def _follow_each_other(order: Sequence[str], key: Sequence[str]) -> bool:
    """Whether rows of an equal key come one after the other in an order."""
    first = [name for name in dict.fromkeys(order) if name != PART][: len(key)]
    return ORDER in first or set(first) == set(key)  # `ORDER` has the day, and what else is in the key follows it


def _spark_schema(table: IcebergTable) -> StructType:
    return from_arrow_schema(schema_to_pyarrow(table.schema(), include_field_ids=False))


def _check_whole(table: IcebergTable, files: Sequence[DataFile]) -> None:
    storage = cast("PyArrowFileIO", table.io)
    scheme, netloc, _ = storage.parse_location(table.location())
    paths = [storage.parse_location(file.file_path)[2] for file in files]
    found = storage.fs_by_scheme(scheme, netloc).get_file_info(paths)
    for file, info in zip(files, found, strict=True):
        if info.size != file.file_size_in_bytes:
            raise OSError(f"{file.file_path} has {info.size} bytes and should have {file.file_size_in_bytes}")


def _address(path: str) -> str:
    """A file's path as Sail takes it for one file; of a plain path `[`, `{` and `*` would be patterns."""
    return path if on_s3(path) else f"file://{quote(path.removeprefix('file://'))}"


def _file_of_a_row(table: IcebergTable) -> Column:
    """The file a row belongs to: its write task, and the values of columns that an older table is partitioned by."""
    schema = table.schema()
    further = [
        schema.find_field(f.source_id).name for f in table.spec().fields if isinstance(f.transform, IdentityTransform)
    ]
    values = [F.coalesce(F.col(name).cast("string"), F.lit("\0")) for name in further]
    return F.concat_ws("\0\0", F.col(PART).cast("string"), *values).alias(PART)


def _batches(frame: DataFrame) -> Iterator[pa.Table]:
    """The rows of a frame in batches, never all at once."""
    client = cast("Any", frame).sparkSession.client
    plan = cast("Any", frame)._plan
    return (found for found in client.to_table_as_iterator(plan.to_proto(client), {}) if isinstance(found, pa.Table))
