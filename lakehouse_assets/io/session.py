"""The one place that configures Spark; every line has its reason."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from lakehouse_assets import runtime
from lakehouse_assets.io.catalog import ANSWER_SECONDS, CATALOG, CONNECT_SECONDS, rest_properties
from lakehouse_assets.io.place import sqlite_file
from lakehouse_assets.io.s3 import SCHEME
from lakehouse_assets.settings import Settings, SettingsError

CONNECT_PORT = 15002  # Spark's own default
BRIEF_BYTES = 8 << 20  # delivered files up to this are computed sooner than Java's second compiler pays for itself
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
        SettingsError: nobody answers at ``SPARK_REMOTE``.
    """
    prepare_environment(settings)
    check_server(settings)
    config, builder = spark_config(settings, brief), SparkSession.builder
    for key, value in config.items():
        builder = builder.config(key, value)
    with _STARTING:
        if not settings.spark_remote:
            _start_java(config)
        return builder.getOrCreate()


def _start_java(config: Mapping[str, str]) -> None:
    """Start the JVM if there is none. What it complains of goes through this process: silent is this one, so is that.

    Else a JVM that is ended while it starts shows dozens of lines of Java.
    """
    if SparkContext._gateway is not None:
        return
    reads, writes = os.pipe()
    threading.Thread(target=_pass_on, args=[reads], daemon=True).start()
    try:
        gateway = launch_gateway(SparkConf().setAll(list(config.items())), {"stderr": writes})
    finally:
        os.close(writes)
    SparkContext._ensure_initialized(gateway=gateway)


def _pass_on(complaints: int) -> None:
    with suppress(OSError):  # nobody reads them any more
        while some := os.read(complaints, 1 << 16):
            os.write(2, some)


class SparkGone(runtime.SetupError):
    """The Spark that a run computes with has ended; the message says what to do."""


def check_spark(spark: SparkSession, settings: Settings) -> None:
    """Fail where the session computes nothing any more.

    Raises:
        SparkGone: it does not.
    """
    try:
        check_server(settings)
        spark.range(1).count()
    except Exception:
        raise SparkGone(
            "Spark has ended in the middle of the run: it was killed, or had no memory left; nothing half done was "
            "published. Run again, with a larger LAKEHOUSE_DRIVER_MEMORY if memory was short"
        ) from None


def check_server(settings: Settings) -> None:
    """Fail at once where no Spark Connect server is; Spark's client would go on trying for ten minutes and say nothing.

    Raises:
        SettingsError: nobody answers at ``SPARK_REMOTE``.
    """
    if not settings.spark_remote:
        return
    address = urlsplit(settings.spark_remote.get_secret_value())
    host, port = address.hostname or "", address.port or CONNECT_PORT
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise SettingsError(
            f"SPARK_REMOTE: no Spark Connect server answers at {host}:{port} ({error.strerror or error}); "
            "start it there, or unset SPARK_REMOTE for the embedded Spark"
        ) from None


def prepare_environment(settings: Settings) -> None:
    """What the JVM and the Python workers read from the environment."""
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    if not settings.spark_remote:
        os.environ["JAVA_HOME"] = str(runtime.java_home())
        os.environ.update(runtime.utf8_locale())
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # nothing of the embedded Spark listens beyond loopback
        if settings.warehouse_uri.startswith(SCHEME):
            # behind Spark's own jars, as the class archive is only good for a class path that begins as it did
            os.environ["SPARK_DIST_CLASSPATH"] = os.pathsep.join(map(str, runtime.jar_paths(runtime.S3_JARS)))


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
    archive = runtime.class_archive()
    if archive:
        options += [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    return {
        "spark.master": "local[*]",
        "spark.app.name": "lakehouse_assets",
        # faster to start than spark.jars, which copies them
        "spark.driver.extraClassPath": os.pathsep.join(str(path) for path in runtime.jar_paths()),
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
    return {"spark.driver.memory": settings.driver_memory, "spark.driver.maxResultSize": "512m"}


def iceberg_config(settings: Settings) -> dict[str, str]:
    """Spark's settings for the lakehouse's catalog; a Spark Connect server needs the same."""
    prefix = f"spark.sql.catalog.{CATALOG}"
    config = {
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
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
    if settings.warehouse_uri.startswith(SCHEME):
        config |= {
            f"{prefix}.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            f"{prefix}.client.region": settings.s3_region,
        }
        if settings.s3_endpoint:
            # a store without a name for every bucket
            config |= {f"{prefix}.s3.endpoint": settings.s3_endpoint, f"{prefix}.s3.path-style-access": "true"}
    return config
