"""Apache Spark: embedded in the process or a Spark Connect server; rows are staged on a branch of the table.

The one place that configures Spark; every line has its reason.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit

from py4j.clientserver import ClientServer
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import Transaction
from pyiceberg.table.update.snapshot import ManageSnapshots
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.assets.division import ORDER, PART, REPEATS
from lakehouse_assets.assets.frames import division
from lakehouse_assets.engines import runtime
from lakehouse_assets.engines.class_archive import class_archive
from lakehouse_assets.engines.jars import JARS, S3_JARS, jar_paths
from lakehouse_assets.engines.java import java_home, utf8_locale
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.catalog import CATALOG, Catalog, head_of, rest_properties
from lakehouse_assets.storage.catalog_errors import ANSWER_SECONDS, CONNECT_SECONDS
from lakehouse_assets.storage.engine import EngineGone, ServerGone
from lakehouse_assets.storage.place import sqlite_file
from lakehouse_assets.storage.staging_branch import new_branch

CONNECT_PORT = 15002  # Spark's own default
_SMALLEST_SPLIT_BYTES = 1 << 18
_LARGEST_SPLIT_BYTES = 128 << 20
BRIEF_BYTES = 8 << 20  # delivered files up to this are computed sooner than Java's second compiler pays for itself
_RESTART_SECONDS = 180  # in which a server that ended is started again by whoever keeps it
_LEAST_HEAP_BYTES = 512 << 20  # with less Spark does not start
_CLAIMED = threading.Event()
_OWN_SERVER: list[str] = []  # its address, if this process has one
_EXTENSIONS = "spark.sql.extensions"
_STARTING = threading.Lock()  # of the session, which a thread may be doing already


def spark_config(settings: Settings, brief: bool = False) -> dict[str, str]:
    """Spark's settings for a lakehouse; with ``SPARK_REMOTE`` the server has its own and only the address is needed."""
    if settings.spark_remote:
        return {"spark.remote": settings.spark_remote.get_secret_value()}
    return _embedded(brief) | _memory(settings) | iceberg_config(settings)


def start_spark(settings: Settings, brief: bool = False) -> SparkSession:
    """The session of this process, started if there is none.

    Args:
        settings: of the lakehouse.
        brief: the process computes at most `BRIEF_BYTES` of deliveries and ends.

    Raises:
        ServerGone: nobody answers at ``SPARK_REMOTE``.
    """
    claim_process(settings)
    prepare_environment(settings)
    check_server(settings)
    config, builder = spark_config(settings, brief), SparkSession.builder
    for key, value in config.items():
        builder = builder.config(key, value)
    with _STARTING:
        if not settings.spark_remote and SparkContext._gateway is None:
            SparkContext._ensure_initialized(gateway=_java(config))
        session = builder.getOrCreate()
    if settings.spark_remote:
        _lose_patience(session)
    return session


def _lose_patience(session: SparkSession) -> None:
    """Limit the client's retries to 15 s in all; its default is ten minutes."""
    from pyspark.sql.connect.client.retries import DefaultPolicy  # brings gRPC, which others need not

    cast("Any", session).client.set_retry_policies([DefaultPolicy(max_retries=6, max_backoff=5000)])


def claim_process(settings: Settings) -> None:
    """Note, before it starts, that this process will have an embedded Spark, which then computes everything."""
    if not settings.spark_remote:
        _CLAIMED.set()
        os.environ.pop("SPARK_CONNECT_MODE_ENABLED", None)  # what a process with a session of Connect left its children


def embedded_spark_runs() -> bool:
    """Whether this process has started an embedded Spark, or is about to."""
    return _CLAIMED.is_set() or SparkContext._gateway is not None


def connect_beside(settings: Settings) -> SparkSession:
    """A session of Spark in a process that has a session of another server, beside which no embedded Spark can be.

    It is one of the server at ``SPARK_REMOTE``, else one that only this process uses and that ends with it: the JVM of
    an embedded Spark, which listens on loopback and takes nobody without a token that is in no file and no command.
    """
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    check_server(settings)
    if settings.spark_remote:
        session = cast("SparkSession", ConnectSession.builder.remote(settings.spark_remote.get_secret_value()).create())
        _lose_patience(session)
        return session
    with _STARTING:
        if not _OWN_SERVER:
            _OWN_SERVER.append(_start_server(settings))
    own = ConnectSession.builder.remote(_OWN_SERVER[0]).create()
    own.client.set_retry_policies([])  # what is gone does not come back
    for key, value in iceberg_config(settings).items():
        if key != _EXTENSIONS:  # the server may have been started for another lakehouse
            own.conf.set(key, value)
    return cast("SparkSession", own)


def _start_server(settings: Settings) -> str:
    """Start a server for this process only; returns its address."""
    prepare_environment(settings)
    token = secrets.token_urlsafe(32)
    own = {
        "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": "0",
        "spark.connect.authenticate.token": token,
    }
    config = spark_config(settings)
    java = _java(config)
    built = java.jvm.SparkConf()
    for key, value in (config | own).items():
        built.set(key, value)
    java.jvm.JavaSparkContext(built)
    service = getattr(java.jvm, "org.apache.spark.sql.connect.service.SparkConnectService$")
    return f"sc://localhost:{getattr(service, 'MODULE$').localPort()}/;token={token}"  # elsewhere only with TLS


def _java(config: Mapping[str, str]) -> ClientServer:
    """Start a JVM. What it complains of goes through this process: silent is this one, so is that.

    Else a JVM that is ended while it starts shows dozens of lines of Java.
    """
    reads, writes = os.pipe()
    threading.Thread(target=_pass_on, args=[reads], daemon=True).start()
    try:
        return cast("ClientServer", launch_gateway(SparkConf(False).setAll(list(config.items())), {"stderr": writes}))
    finally:
        os.close(writes)


def _pass_on(complaints: int) -> None:
    with suppress(OSError):  # nobody reads them any more
        while some := os.read(complaints, 1 << 16):
            os.write(2, some)


def check_spark(spark: SparkSession, settings: Settings) -> None:
    """Raise if the session no longer works.

    Raises:
        EngineGone: it does not.
        ServerGone: it does not, and it is a server's.
    """
    try:
        check_server(settings)
        spark.range(1).count()
    except Exception:
        if settings.spark_remote:
            raise ServerGone(
                "the Spark Connect server at SPARK_REMOTE has ended in the middle of the run, or was started again; "
                "nothing half-written was published. Look at its log, and run again when it is back"
            ) from None
        raise EngineGone(
            "Spark has ended in the middle of the run: it was killed, or ran out of memory; nothing half-written "
            "was published. Run again, with a larger LAKEHOUSE_DRIVER_MEMORY if memory was short"
        ) from None


def check_server(settings: Settings) -> None:
    """Fail at once if no Spark Connect server answers; Spark's client would retry for ten minutes in silence.

    Raises:
        ServerGone: nobody answers at ``SPARK_REMOTE``.
    """
    if not settings.spark_remote:
        return
    address = urlsplit(settings.spark_remote.get_secret_value())
    host, port = address.hostname or "", address.port or CONNECT_PORT
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise ServerGone(
            f"SPARK_REMOTE: no Spark Connect server answers at {host}:{port} ({error.strerror or error}); "
            "start it there, or unset SPARK_REMOTE for the embedded Spark"
        ) from None


def prepare_environment(settings: Settings) -> None:
    """Set the environment variables that the JVM and the Python workers read."""
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    if not settings.spark_remote:
        in_a_bucket = on_s3(settings.warehouse_uri)
        runtime.ensure(JARS + S3_JARS if in_a_bucket else JARS)
        os.environ.pop("SPARK_REMOTE", None)  # of a lakehouse in a folder beside a server, which PySpark would go to
        os.environ["JAVA_HOME"] = str(java_home())
        os.environ.update(utf8_locale())
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # nothing of the embedded Spark listens beyond loopback
        if in_a_bucket:
            # behind Spark's own jars, as the class archive is only good for a class path that begins as it did
            os.environ["SPARK_DIST_CLASSPATH"] = os.pathsep.join(map(str, jar_paths(S3_JARS)))


def _embedded(brief: bool) -> dict[str, str]:
    options = ["-Djava.net.preferIPv4Stack=true", "-XX:+UseParallelGC"]
    # errors only, from the first line on; Spark's own settings of the level come after five lines that say nothing
    options.append(f'"-Dlog4j2.configurationFile={Path(__file__).with_name("log4j2.properties").as_uri()}"')
    # Spark writes the classification of a row as one long method, which Java would interpret for ever
    options.append("-XX:-DontCompileHugeMethods")
    if brief:
        # a day with start: 17 s instead of 21 s; a year is no faster with it
        options.append("-XX:TieredStopAtLevel=1")
        # with one compiler Java gives 48 MB to compiled code; a run of all tables fills that: Java Errors
        options.append("-XX:ReservedCodeCacheSize=240m")
    archive = class_archive()
    if archive:
        options += [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    return {
        "spark.master": "local[*]",
        "spark.app.name": "lakehouse_assets",
        # faster to start than spark.jars, which copies them
        "spark.driver.extraClassPath": os.pathsep.join(str(path) for path in jar_paths()),
        "spark.driver.extraJavaOptions": " ".join(options),
        # its environment page shows every setting, keys included
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # nothing depends on it; a fixed zone makes what people see the same everywhere
        "spark.sql.session.timeZone": "UTC",
        # small data: few shuffle partitions to begin with, and adaptive execution joins what is still too small
        "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 2)),
        "spark.sql.adaptive.coalescePartitions.parallelismFirst": "false",
        # a running count over days is one partition of a few hundred rows
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
        "spark.python.worker.reuse": "true",
        # noting the line of code behind every column takes three calls into the JVM instead of one
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        # Hadoop's own local file system starts a `chmod` process twice per file
        "spark.hadoop.fs.file.impl": "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem",
    }


def _memory(settings: Settings) -> dict[str, str]:
    heap = settings.driver_memory if settings.driver_bytes >= _LEAST_HEAP_BYTES else f"{_LEAST_HEAP_BYTES >> 20}m"
    return {
        "spark.driver.memory": heap,
        "spark.driver.maxResultSize": "512m",
        "spark.local.dir": str(settings.spill_path),
    }


def iceberg_config(settings: Settings) -> dict[str, str]:
    """Spark's settings for the lakehouse's catalog; a Spark Connect server needs the same."""
    prefix = f"spark.sql.catalog.{CATALOG}"
    config = {
        _EXTENSIONS: "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        prefix: "org.apache.iceberg.spark.SparkCatalog",
        f"{prefix}.warehouse": settings.warehouse_uri,
        # commits also come from PyIceberg, so a cached table could be an old one
        f"{prefix}.cache-enabled": "false",
    }
    if settings.catalog_uri:
        config[f"{prefix}.type"] = "rest"
        config |= {f"{prefix}.{key}": value for key, value in rest_properties(settings).items()}
        config[f"{prefix}.rest.client.connection-timeout-ms"] = str(CONNECT_SECONDS * 1000)
        config[f"{prefix}.rest.client.socket-timeout-ms"] = str(ANSWER_SECONDS * 1000)
    else:
        wait = settings.lock_timeout_seconds * 1000
        config |= {
            f"{prefix}.catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
            f"{prefix}.uri": f"jdbc:sqlite:file:{quote(str(sqlite_file(settings)))}?busy_timeout={wait}",
            f"{prefix}.jdbc.schema-version": "V1",  # the layout PyIceberg shares
        }
    if on_s3(settings.warehouse_uri):
        config |= {
            f"{prefix}.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            f"{prefix}.client.region": settings.s3_region,
        }
        if settings.s3_endpoint:
            # a store without a name for every bucket
            config |= {f"{prefix}.s3.endpoint": settings.s3_endpoint, f"{prefix}.s3.path-style-access": "true"}
    return config


class SparkEngine:
    """Computes with Spark and stages on branches (Iceberg's write-audit-publish)."""

    name = "spark"
    stages_beside = False  # not tried

    def __init__(self, settings: Settings, catalog: Catalog, session: Callable[[], SparkSession]) -> None:
        """An engine.

        Args:
            settings: of the lakehouse.
            catalog: the lakehouse's.
            session: gives the session; asked for once, when it is first needed.
        """
        self._settings = settings
        self._catalog = catalog
        self._start = session

    def check(self) -> None:
        """A JVM that was killed, or a server that nobody answers at, is gone."""
        if "session" in vars(self):  # none was asked for yet, so none has ended
            check_spark(self.session, self._settings)

    @cached_property
    def session(self) -> SparkSession:
        """The Spark session."""
        # kept: finding the session again hands all of its settings over again
        return self._start()

    def begin_again(self) -> None:
        """Forget the session, once its server answers again.

        Raises:
            ServerGone: it does not come back.
        """
        deadline = time.monotonic() + _RESTART_SECONDS
        while True:
            try:
                check_server(self._settings)
                break
            except ServerGone:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
        gone = vars(self).pop("session", None)
        with suppress(Exception):  # the server does not know it any more, and is not asked for that again and again
            cast("Any", gone).client.set_retry_policies([])
            gone.stop()

    def read(self, table: IcebergTable, files: Sequence[DataFile]) -> DataFrame:
        """The rows of the loaded snapshot; ``files`` are those that will be read."""
        reader = self.session.read.option("versionAsOf", head_of(table))
        return reader.option("split-size", self._split_size(files)).table(_name(table))

    def divided(self, frame: DataFrame, parts: int, key: Sequence[str] = ()) -> DataFrame:
        """The rows of a write task in a partition of their own, where all rows of a key are too."""
        return frame.repartitionById(parts, PART)

    def gathered(self, frame: DataFrame, *, one_task: bool) -> DataFrame:
        """The rows of a write task in the same partition."""
        return frame.repartition(1) if one_task else frame.repartition(PART)

    def repeats_marked(self, rows: DataFrame, order: Sequence[str], key: Sequence[str]) -> DataFrame:
        """Rows of a key numbered: that takes no shuffle, and no sort beside that of the write task."""
        same = Window.partitionBy(*division(rows), *key).orderBy(key[0])
        return rows.withColumn(REPEATS, F.row_number().over(same))

    def stage(
        self,
        table: IcebergTable,
        rows: DataFrame,
        order: Sequence[str],
        conditions: Mapping[str, Column],
        key: Sequence[str] = (),
    ) -> BranchStaging:
        """Append rows to a new branch; what is divided is sorted already, as its key was numbered in that order."""
        staging = BranchStaging(self, self._catalog, ".".join(table.name()))
        try:
            arranged = rows if ORDER in rows.columns or not order else rows.sortWithinPartitions(*order)
            observed = Observation()
            # counted as the rows go by, in the write's own stage, where that is exact
            counted = dict(conditions) | ({REPEATS: F.col(REPEATS) > 1} if key else {})
            counts = [F.count_if(condition).alias(name) for name, condition in counted.items()]
            columns = [field.name for field in table.schema().fields]
            staging.append((arranged.observe(observed, *counts) if counts else arranged).select(*columns))
            if staging.files and counts:
                staging.counted = dict(observed.get)
        except BaseException:
            staging.discard()
            raise
        return staging

    def staged(self, name: str, start: int, head: int, files: Sequence[DataFile]) -> DataFrame:
        """An incremental read of what a branch appended."""
        reader = self.session.read.option("start-snapshot-id", start).option("end-snapshot-id", head)
        return reader.option("split-size", self._split_size(files)).table(f"{CATALOG}.{name}")

    def _split_size(self, files: Sequence[DataFile]) -> int:
        """Bytes a read task takes, so that all cores share even a small read; the default gives it to one."""
        tasks = int(self.session.conf.get("spark.sql.shuffle.partitions") or 1)
        size = sum(file.file_size_in_bytes for file in files)
        return min(max(size // tasks, _SMALLEST_SPLIT_BYTES), _LARGEST_SPLIT_BYTES)


class BranchStaging:
    """Rows appended to a branch of their own, which the publishing commit removes."""

    def __init__(self, engine: SparkEngine, catalog: Catalog, table: str) -> None:
        """Make the branch, named after the second it began in, where main is."""
        self._engine = engine
        self._catalog = catalog
        self._table = table
        self._branch = new_branch()
        self.files: Sequence[DataFile] = ()
        self.counted: Mapping[str, int] = {}

        def create(now: IcebergTable) -> int:
            start = head_of(now)
            now.manage_snapshots().create_branch(start, self._branch).commit()
            return start

        self._start = catalog.alter(table, create)

    def append(self, rows: DataFrame) -> None:
        """Stage rows."""
        rows.writeTo(f"{CATALOG}.{self._table}.branch_{self._branch}").append()
        staged = self._catalog.iceberg.load_table(self._table)
        self._head = head_of(staged, self._branch)
        self.files = _added_files(staged, self._head)

    def rows(self) -> DataFrame:
        """Exactly the staged rows."""
        return self._engine.staged(self._table, self._start, self._head, self.files)

    def is_abandoned(self, now: IcebergTable) -> bool:
        """Maintenance removes the branch before the files."""
        return self._branch not in now.refs()

    def release(self, transaction: Transaction, now: IcebergTable) -> None:
        """The commit removes the branch too, so of two only one can happen."""
        ManageSnapshots(transaction).remove_branch(self._branch).commit()

    def is_released(self, now: IcebergTable, wanted: int) -> bool:
        """A published branch is gone, and so is one removed as abandoned; the snapshot tells them apart."""
        return self._branch not in now.refs() and now.snapshot_by_id(wanted) is not None

    def discard(self) -> None:
        """Remove the branch, and the files it added to the snapshot it began at."""
        table = self._catalog.iceberg.load_table(self._table)
        if self._branch not in table.refs():  # removed as abandoned, with its files
            return
        head = head_of(table, self._branch)  # which nobody but this run moves
        files = _added_files(table, head) if head != self._start else []  # a branch still at its start added nothing
        if self._catalog.remove_branch(self._table, self._branch) is None:
            return
        for file in files:
            table.io.delete(file.file_path)


def _name(table: IcebergTable) -> str:
    return f"{CATALOG}.{'.'.join(table.name())}"


def _added_files(table: IcebergTable, snapshot_id: int) -> list[DataFile]:
    """Data files that a snapshot itself added."""
    snapshot = table.snapshot_by_id(snapshot_id)
    assert snapshot is not None
    manifests = [m for m in snapshot.manifests(table.io) if m.added_snapshot_id == snapshot_id]
    return [
        entry.data_file
        for m in manifests
        for entry in m.fetch_manifest_entry(table.io)
        if entry.snapshot_id == snapshot_id
    ]
