"""Starts and ends the stack's services as plain processes on loopback."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from lakehouse_assets.cache import cache_dir
from lakehouse_assets.engines.java import java_home
from lakehouse_assets_tests.stack import tools
from lakehouse_assets_tests.stack.proxy import Proxy

ROOT = Path(__file__).parents[2]
DEFAULTS = ROOT / "spark" / "spark-defaults.conf"
REGION = "us-east-1"
START_SECONDS = 90


class ServiceFailed(RuntimeError):
    """A service did not start; the message ends with its log."""


def free_port() -> int:
    """A port below those that the kernel hands out, one of which may be taken before a slow service binds it."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def serves(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Service:
    """One process in a group of its own, with its log in a file."""

    def __init__(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> Service:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.log.parent,
            )
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServiceFailed(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """End it as a power cut would."""
        self._signal(signal.SIGKILL)

    def stop(self, seconds: float = 10) -> None:
        """End it as it wants to be ended, and if it does not listen within so many seconds at once."""
        self._signal(signal.SIGTERM, seconds)

    def _signal(self, what: signal.Signals, seconds: float = 10) -> None:
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, what)
            self.process.wait(seconds)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


@dataclass
class S3:
    """A MinIO server; ``user`` is who the lakehouse is, whose policy lets it use its bucket only."""

    service: Service
    port: int
    root: Mapping[str, str]
    user: Mapping[str, str] = field(default_factory=dict)
    bucket: str = "lakehouse"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        return serves(f"{self.endpoint}/minio/health/ready")

    def client(self, who: Mapping[str, str] | None = None) -> Any:
        keys = self.root if who is None else who
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        )


def start_s3(folder: Path, stack: ExitStack) -> S3:
    """MinIO with the bucket and its user, made as the stack's own provisioning makes them."""
    from lakehouse_assets.stack.provision import provision

    port, console = free_port(), free_port()
    root = {"AWS_ACCESS_KEY_ID": "root-" + secrets.token_hex(4), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
    user = {"AWS_ACCESS_KEY_ID": "lakehouse-jobs", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
    (folder / "s3").mkdir(parents=True)
    service = Service(
        "MinIO",
        [
            *(tools.minio(), "server", folder / "s3", "--quiet"),
            *("--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{console}"),
        ],
        {
            "MINIO_ROOT_USER": root["AWS_ACCESS_KEY_ID"],
            "MINIO_ROOT_PASSWORD": root["AWS_SECRET_ACCESS_KEY"],
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        },
        folder / "s3.log",
    )
    s3 = S3(service, port, root, user)
    service.start(s3.ready)
    stack.callback(service.stop)
    provision(s3.endpoint, REGION, s3.bucket, root, user)
    return s3


def start_catalog(folder: Path, warehouse: str, s3: S3, stack: ExitStack) -> tuple[Service, int]:
    """The REST catalog over Iceberg's own handlers; its database is a file in the folder."""
    port = free_port()
    properties = {
        "uri": f"jdbc:sqlite:{folder}/rest-catalog.db?busy_timeout=60000",
        "clients": "1",
        "warehouse": warehouse,
        "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        "s3.endpoint": s3.endpoint,
        "s3.path-style-access": "true",
        "client.region": REGION,
    }
    service = Service(
        "REST catalog",
        [
            java_home() / "bin" / "java",
            *("-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dsun.net.httpserver.nodelay=true"),
            *("-cp", f"{tools.rest_catalog()}{os.pathsep}{tools.java_classpath()}", "RestCatalog", str(port)),
            *(f"{key}={value}" for key, value in properties.items()),
        ],
        s3.user,
        folder / "rest-catalog.log",
    )
    service.start(lambda: serves(f"http://127.0.0.1:{port}/v1/config"))
    stack.callback(service.stop)
    return service, port


def start_postgres(folder: Path, stack: ExitStack) -> str:
    """Postgres with a database and user for Dagster; the address that opens it.

    Raises:
        SetupError: the package with Postgres is not installed.
        ServiceFailed: it did not start, or has no such database.
    """
    as_root = os.geteuid() == 0  # whom Postgres refuses; and nobody may not enter root's home
    bin_folder = tools.postgres(copied_to=folder / "programs" if as_root else None)
    data, port = folder / "data", free_port()
    folder.mkdir(exist_ok=True)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_hex(16))
    as_user: list[str] = []
    if as_root:
        for path in (folder, password):
            shutil.chown(path, "nobody")
        for above in folder.parents:
            if above != Path("/") and above.stat().st_uid == 0 and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    make = [*as_user, str(bin_folder / "initdb"), "-D", str(data), "-U", "dagster", "-A", "scram-sha-256"]
    done = subprocess.run(
        [*make, "--pwfile", str(password), "-E", "UTF8", "--no-sync"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServiceFailed(f"initdb: {done.stderr.strip()}")
    command = [*as_user, str(bin_folder / "postgres"), "-D", str(data), "-p", str(port), "-k", "", "-h", "127.0.0.1"]
    service = Service("postgres", command, {}, folder.parent / "postgres.log")
    ready = [str(bin_folder / "pg_isready"), "--quiet", "-h", "127.0.0.1", "-p", str(port)]  # it listens before it is
    service.start(lambda: subprocess.run(ready, check=False).returncode == 0)
    stack.callback(service.stop)
    url = f"postgresql+psycopg2://dagster:{password.read_text()}@127.0.0.1:{port}/dagster"
    made = subprocess.run(
        [bin_folder / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "dagster", "dagster"],
        env={"PGPASSWORD": password.read_text(), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise ServiceFailed(f"createdb: {made.stderr.strip()}")
    return url


@dataclass
class Cluster:
    """A standalone Spark cluster with a Connect server as its driver."""

    master: Service
    master_port: int
    master_page: int
    workers: list[Service]
    connect: Service
    connect_port: int
    secret: str

    @property
    def remote(self) -> str:
        return f"sc://127.0.0.1:{self.connect_port}"


def start_cluster(
    folder: Path, environment: Mapping[str, str], stack: ExitStack, workers: int = 2, more: Mapping[str, str] = {}
) -> Cluster:
    """Master, workers of one core each and Connect server, from spark/spark-defaults.conf.

    Args:
        folder: for logs and work.
        environment: the lakehouse's settings and keys.
        stack: ends the processes.
        workers: how many.
        more: further settings of Spark's.
    """
    port, page, connect_port = free_port(), free_port(), free_port()
    events = folder / "events"
    events.mkdir()
    base = {
        **environment,
        "_SPARK_AUTH_SECRET": secrets.token_hex(24),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
        "LAKEHOUSE_CACHE": str(cache_dir()),
        "SPARK_LOG_DIR": str(folder),
        "SPARK_DAEMON_MEMORY": "256m",
    }
    conf = {"spark.eventLog.dir": events.as_uri(), "spark.log.level": "WARN", "spark.ui.showConsoleProgress": "false"}
    conf |= {"spark.driver.memory": "1g", "spark.executor.memory": "1g", "spark.executor.cores": "1", **more}

    def part(name: str, what: str, conf: Mapping[str, str], *rest: str) -> Service:
        pairs = [option for key, value in conf.items() for option in ("--conf", f"{key}={value}")]
        command = [sys.executable, "-m", "lakehouse_assets.stack.cluster", what, "--defaults", str(DEFAULTS), *pairs]
        service = Service(name, [*command, "--", *rest], base, folder / f"{name}.log")
        stack.callback(service.stop)
        return service

    url = f"spark://127.0.0.1:{port}"
    master = part("master", "master", {}, "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page))
    master.start(lambda: serves(f"http://127.0.0.1:{page}/json/"))
    started = []
    for number in range(workers):
        name = f"worker-{number}"
        options = ["--host", "127.0.0.1", "--webui-port", str(free_port()), "--cores", "1", "--memory", "1200m"]
        started.append(part(name, "worker", {}, *options, "--work-dir", str(folder / name), url))
    for number, worker in enumerate(started):
        worker.start(lambda least=number + 1: len(alive_workers(page)) >= least)  # type: ignore[misc]
    connect = part(
        "connect",
        "connect",
        {**conf, "spark.master": url, "spark.connect.grpc.binding.port": str(connect_port)}
        | {"spark.connect.grpc.binding.address": "127.0.0.1"},
    )
    connect.start(lambda: answers(connect_port))
    return Cluster(master, port, page, started, connect, connect_port, base["_SPARK_AUTH_SECRET"])


def alive_workers(page: int) -> list[Mapping[str, Any]]:
    """Workers that the master knows and hears of."""
    with urllib.request.urlopen(f"http://127.0.0.1:{page}/json/", timeout=5) as answer:
        return [worker for worker in json.load(answer)["workers"] if worker["state"] == "ALIVE"]


def lake_environment(s3: S3, s3_port: int, catalog_port: int, home: Path) -> dict[str, str]:
    """The settings that make a lakehouse one of the stack."""
    return {
        **s3.user,
        "AWS_EC2_METADATA_DISABLED": "true",  # there is none here, and looking for it takes seconds
        "S3_ENDPOINT": f"http://127.0.0.1:{s3_port}",
        "S3_REGION": REGION,
        "LAKEHOUSE_HOME": str(home),
        "LAKEHOUSE_WAREHOUSE": f"s3://{s3.bucket}/warehouse",
        "LAKEHOUSE_LANDING": f"s3://{s3.bucket}/landing",
        "LAKEHOUSE_CATALOG_URI": f"http://127.0.0.1:{catalog_port}",
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


@dataclass
class Stack:
    """S3 server, REST catalog and perhaps a Spark cluster; the proxies hold what is wrong with the network."""

    folder: Path
    s3: S3
    catalog: Service
    catalog_port: int
    cluster: Cluster | None
    environment: dict[str, str]
    s3_proxy: Proxy
    catalog_proxy: Proxy

    @property
    def secrets(self) -> list[str]:
        """What no log may ever hold."""
        keys = [who["AWS_SECRET_ACCESS_KEY"] for who in (self.s3.root, self.s3.user)]
        return [*keys, *([self.cluster.secret] if self.cluster else [])]

    def lakehouse(
        self, *arguments: str | Path, environment: Mapping[str, str] = {}, seconds: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run the command against this stack, in a process of its own."""
        return self.python("lakehouse_assets.cli", *arguments, environment=environment, seconds=seconds)

    def python(
        self, module: str, *arguments: str | Path, environment: Mapping[str, str] = {}, seconds: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python module against this stack, in a session of its own."""
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            start_new_session=True,
            env={
                "PATH": os.environ["PATH"],
                "HOME": os.environ.get("HOME", "/"),
                "PYTHONPATH": str(ROOT),
                **self.environment,
                **environment,
            },
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


@contextmanager
def running(folder: Path, *, spark: bool, workers: int = 2, more: Mapping[str, str] = {}) -> Iterator[Stack]:
    """The services, for as long as the block takes; the lakehouse reaches S3 and catalog through proxies."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        s3 = start_s3(folder, stack)
        catalog, catalog_port = start_catalog(folder, f"s3://{s3.bucket}/warehouse", s3, stack)
        s3_proxy, catalog_proxy = (stack.enter_context(Proxy(port).running()) for port in (s3.port, catalog_port))
        environment = lake_environment(s3, s3_proxy.port, catalog_proxy.port, folder / "home")
        cluster = start_cluster(folder, environment, stack, workers, more) if spark else None
        if cluster:
            environment |= {"SPARK_REMOTE": cluster.remote, "LAKEHOUSE_ENGINE": "spark"}
        yield Stack(folder, s3, catalog, catalog_port, cluster, environment, s3_proxy, catalog_proxy)


def main() -> None:
    """Keep the services running until interrupted, and print the settings that point at them."""
    folder = Path(sys.argv[1]).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    with running(folder, spark="--spark" in sys.argv) as stack:
        script = folder / "environment.sh"
        script.touch(mode=0o600)
        script.write_text("".join(f"export {key}='{value}'\n" for key, value in stack.environment.items()))
        print(f"running; `. {script}` points a shell at it; Ctrl-C ends it", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
