"""The jars of Maven Central that Spark needs, each pinned by its content, and how they are fetched."""

import importlib.util
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lakehouse_assets.cache import cache_dir, last_line, sha256
from lakehouse_assets.engines.download import watched
from lakehouse_assets.engines.java import Java, find_java, utf8_locale
from lakehouse_assets.engines.trust import java_trust_store, python_authorities
from lakehouse_assets.errors import SetupError


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


def jar_paths(jars: Sequence[Jar] = JARS) -> list[Path]:
    """Jars for Spark's class path; those of every Spark in the order that the class-data archive was made with.

    Raises:
        SetupError: one is not there or is not whole.
    """
    missing = [jar.file_name for jar in jars if not has_right_size(jar)]
    if missing:
        target = "setup" if set(jars) <= set(JARS) else "setup-s3"
        raise SetupError(f"{' and '.join(missing)} missing or incomplete in {jar_dir()}; run `make {target}`.")
    return [jar_dir() / jar.file_name for jar in jars]


def fetched(jar: Jar) -> Path:
    """A jar that Spark does not need, downloaded when it is first asked for.

    Raises:
        SetupError: there is no Java, or the jar could not be had.
    """
    if not is_intact(jar):
        java, _ = find_java()
        if java is None:
            raise SetupError("Java 17 or 21 is needed to fetch a jar; run `make setup`.")
        fetch_jars(java, [jar])
    return jar_dir() / jar.file_name


def jar_dir() -> Path:
    """Where the jars are."""
    return cache_dir() / "jars"


def has_right_size(jar: Jar) -> bool:
    """Whether a jar is there, as far as its size tells."""
    try:
        return (jar_dir() / jar.file_name).stat().st_size == jar.size
    except OSError:
        return False


def is_intact(jar: Jar) -> bool:
    """Whether a jar is there and is what the pin says."""
    return has_right_size(jar) and sha256(jar_dir() / jar.file_name) == jar.sha256


def fetch_jars(java: Java, jars: list[Jar]) -> None:
    """Download jars with the Ivy that pyspark brings along, which knows where Maven's jars are.

    A Java brings its own list of certificate authorities, which misses the ones that were added to this machine, for
    instance a company's. So where Java's own list fails, the one that Python uses is tried.
    """
    jar_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=jar_dir()) as name:
        folder = Path(name)
        wanted = folder / "ivy.xml"
        wanted.write_text(_ivy_file(jars))
        authorities = folder / "authorities.jks"
        authorities.write_bytes(java_trust_store(python_authorities()))
        for trust in ([], [f"-Djavax.net.ssl.trustStore={authorities}"]):
            ivy = [*trust, f"-Divy.home={folder}/home", "-jar", str(_ivy_jar()), "-cache", f"{folder}/cache"]
            what = ["-ivy", str(wanted), "-types", "jar", "-retrieve", f"{folder}/[artifact]-[revision].[ext]"]
            command = [str(java.home / "bin" / "java"), *ivy, *what]
            done = watched(command, os.environ | utf8_locale(), folder, sum(jar.size for jar in jars))
            if done.returncode == 0:
                break
        else:
            reasons = re.findall(r"\(([\w.]+(?:Exception|Error)[^)]*)\)", done.stdout + done.stderr)
            raise SetupError(
                f"{' and '.join(jar.file_name for jar in jars)} could not be downloaded from Maven Central: "
                f"{reasons[-1] if reasons else last_line(done.stdout)}"
            )
        for jar in jars:
            adopt_jar(folder / jar.file_name, jar)


def _ivy_file(jars: list[Jar]) -> str:
    """Ivy's list of jars, without their dependencies, which Spark brings."""
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
    found = sha256(file)
    if found != jar.sha256:
        raise SetupError(
            f"{jar.file_name} was refused: its SHA-256 is {found}, but {jar.sha256} is pinned, "
            "so what was downloaded is not the file this project was tested with."
        )
    jar_dir().mkdir(parents=True, exist_ok=True)
    file.replace(jar_dir() / jar.file_name)


def _ivy_jar() -> Path:
    return next(spark_jar_dir().glob("ivy-*.jar"))


def spark_jar_dir() -> Path:
    """Where the jars of the installed pyspark are, found without the second that importing it takes."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise SetupError("pyspark is not installed in this Python environment; run `make setup`.")
    return Path(spec.origin).parent / "jars"
