"""`make stack-check`: `make stack` from nothing, in a Docker of its own, and what must hold of it.

    python -m lakehouse_assets_tests.stack.check [--folder DIR] [--fresh]

docker-compose.yaml, Dockerfile and the Makefile's targets run as they stand, in a copy of this project without its
caches. Only two things differ from a machine with a network: images come from a local registry, made by `images.py`,
**with the tests' REST catalog in Polaris's place**; and silo's digest, which that registry can't have, is overridden.
Needs root and Debian's docker.io, iptables, docker-registry and mmdebstrap; the first time 15 minutes, later 10.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse_assets.engines.runtime import cache_dir
from lakehouse_assets.errors import SetupError
from lakehouse_assets.stack.environment import PORTS
from lakehouse_assets_tests.stack import docker as own_docker
from lakehouse_assets_tests.stack import images
from lakehouse_assets_tests.stack.docker import Docker
from lakehouse_assets_tests.stack.rehearsal import RehearsalFailed, ask, backfill
from lakehouse_assets_tests.stack.services import ROOT, ServiceFailed, free_port

ONCE = ("volumes-ready", "provision")  # which end when they have done what they are for
KILLED = ("spark-worker-1", "spark-connect", "dagster-code", "dagster-daemon", "s3")
SOME_TABLES = ("silver.interactions", "silver.user_days", "gold.daily_metrics", "gold.session_metrics")
HEAL_SECONDS = 180
_STATE = "{ runsOrError(limit: 20) { ... on Runs { results { runId status jobName } } } }"
_BACKFILLS = "__ASSET_JOB"  # what Dagster calls the job of a backfill's runs
_DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"

_DIGESTS = """
import hashlib, pathlib
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.storage.query import export
lake, file = Lakehouse(), pathlib.Path("/tmp/export.csv")
for name in sorted(lake.catalog.names()):
    if name.startswith("gold."):
        export(lake.catalog, name, file, "csv", None, None)
        print(name, hashlib.sha256(file.read_bytes()).hexdigest())
"""
_LAST_DAY = """
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.storage.query import connect
days = connect(Lakehouse().catalog, ["gold.daily_metrics"])
print(days.execute("SELECT max(date) FROM gold.daily_metrics WHERE daily_active_users > 0").fetchall()[0][0])
"""


class CheckFailed(RuntimeError):
    """Something does not hold; the message says what was seen."""


class Check:
    """The stack of one run of the check."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self.docker = docker
        self.clone = folder / "clone"
        self.began = time.monotonic()
        self.ports = {variable: free_port() for variable in PORTS.values()}
        override = folder / "override.yaml"
        silo = next(image for image in images.SERVICES if image.name == "pgsty/silo")
        override.write_text(json.dumps({"services": {"s3": {"image": f"docker.io/{silo.name}:{silo.tag}"}}}))
        self.environment = {
            "COMPOSE_FILE": f"docker-compose.yaml:{override}",
            **{variable: str(port) for variable, port in self.ports.items()},
        }

    def say(self, line: str) -> None:
        print(f"stack-check: {time.monotonic() - self.began:6.1f} s  {line}", flush=True)

    def make(self, target: str, environment: Mapping[str, str] = {}) -> tuple[str, float]:
        """Run a target in the clone; what it said and how long it took."""
        began = time.monotonic()
        done = self.tried("make", target, environment=environment)
        if done.returncode:
            raise CheckFailed(f"make {target}: {(done.stdout + done.stderr)[-4000:]}")
        return done.stdout + done.stderr, time.monotonic() - began

    def tried(self, *command: str, environment: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
        return self.docker.tried(command, self.clone, {**self.environment, **environment})

    def compose(self, *arguments: str) -> str:
        return self.docker.run(["docker", "compose", *arguments], self.clone, self.environment)

    def python(self, script: str) -> str:
        """Run a script in the code server's container, where the lakehouse is the stack's."""
        return self.compose("exec", "-T", "dagster-code", "python", "-c", script)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What Docker says of each service's container."""
        ids = self.docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=lakehouse").split()
        found = json.loads(self.docker("inspect", *ids)) if ids else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}

    def kill(self, service: str) -> None:
        """End a service's container as a lack of memory would: its first process is killed from outside."""
        os.kill(self.containers()[service]["State"]["Pid"], signal.SIGKILL)

    def stop(self, service: str) -> None:
        """End a service for as long as nobody starts it."""
        self.compose("stop", service)

    def web(self) -> int:
        return self.ports["PORT_DAGSTER"]

    def wait(self, what: str, holds: Callable[[], bool], seconds: float = HEAL_SECONDS) -> float:
        """Wait until something holds; seconds it took."""
        began = time.monotonic()
        while not _quietly(holds):
            if time.monotonic() - began > seconds:
                raise CheckFailed(f"not within {seconds:.0f} s: {what}")
            time.sleep(1)
        return time.monotonic() - began

    def all_healthy(self) -> bool:
        states = {name: one["State"] for name, one in self.containers().items() if name not in ONCE}
        return all(
            state["Running"] and state.get("Health", {"Status": "healthy"})["Status"] == "healthy"
            for state in states.values()
        )


def _quietly(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except (OSError, RehearsalFailed, SetupError):  # what is being started answers in any way
        return False


def copy_project(folder: Path) -> None:
    """The project as it is in version control, uncommitted changes with it, and nothing that it made for itself."""
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    shutil.rmtree(folder, ignore_errors=True)
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def start(check: Check) -> None:
    """From nothing to green, with the ports that are asked for."""
    check.make("stack-env")
    check.make("stack-images")
    digests = [line for line in (check.clone / ".env").read_text().splitlines() if "DIGEST=" in line]
    check.say(f"make stack-env, make stack-images: {len(digests)} digests, asked of Docker")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = check.tried("make", "stack", environment={"PORT_DAGSTER": str(port)})
    if done.returncode == 0 or f"port {port} of this machine is taken; let PORT_DAGSTER" not in done.stderr:
        raise CheckFailed(f"a port that is taken is not told before anything starts: {done.stdout + done.stderr}")
    if check.containers():
        raise CheckFailed("with a port that is taken containers were started")
    check.say("a port that is taken: one sentence, nothing started")
    _, seconds = check.make("stack")
    check.wait("every service is healthy", check.all_healthy, 120)
    check.say(f"make stack: {seconds:.0f} s, {len(check.containers())} containers, all healthy")


def start_again(check: Check) -> None:
    """`make stack` a second time, and the profiles beside it, leave every container as it is."""
    before = _lives(check)
    _, seconds = check.make("stack")
    _same_lives(check, before, "a second make stack")
    check.say(f"make stack again: {seconds:.0f} s, nothing was made again or restarted")
    check.compose("--profile", "notebook", "--profile", "history", "up", "--detach", "jupyter", "spark-history")
    _same_lives(check, before, "starting jupyter and spark-history")
    check.say("jupyter and spark-history started beside it, nothing was restarted")


def _lives(check: Check) -> dict[str, tuple[str, str]]:
    """The container of each lasting service, and when it was started."""
    return {
        name: (one["Id"], one["State"]["StartedAt"]) for name, one in check.containers().items() if name not in ONCE
    }


def _same_lives(check: Check, before: Mapping[str, tuple[str, str]], what: str) -> None:
    now = _lives(check)
    if other := [name for name in before if now.get(name) != before[name]]:
        raise CheckFailed(f"{what} made or started again: {', '.join(other)}")


def demo(check: Check) -> dict[str, str]:
    """The demo; the days it filled."""
    _, seconds = check.make("stack-demo")
    check.say(f"make stack-demo: {seconds:.0f} s")
    check.wait("no run is left", lambda: not _running(check), 600)
    return gold(check)


def gold(check: Check) -> dict[str, str]:
    """A digest of every gold table, as exported."""
    said = check.python(_DIGESTS)
    return dict(line.split() for line in said.splitlines() if line.startswith("gold."))


def _running(check: Check) -> list[str]:
    runs = ask(check.web(), _STATE)["runsOrError"]["results"]
    return [run["runId"] for run in runs if run["status"] not in ("SUCCESS", "FAILURE", "CANCELED")]


def last_day(check: Check) -> str:
    """The last day that somebody was active."""
    return check.python(_LAST_DAY).split()[-1]


def notebook(check: Check) -> None:
    """Jupyter saves, a cell reads the shared lakehouse, and a notebook with a lakehouse of its own leaves it alone."""
    token = next(
        line.partition("=")[2]
        for line in (check.clone / ".env").read_text().splitlines()
        if line.startswith("JUPYTER_SECRET=")
    )
    port = check.ports["PORT_JUPYTER"]
    check.wait("Jupyter answers", lambda: _serves(f"http://127.0.0.1:{port}/api?token={token}"))
    cell = (
        "from lakehouse_assets.lakehouse import Lakehouse\n"
        "from lakehouse_assets.storage.query import connect\n"
        "connect(Lakehouse().catalog).execute('select count(*) from gold.daily_metrics').fetchall()"
    )
    book = {
        "cells": [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/contents/own.ipynb?token={token}",
        json.dumps({"type": "notebook", "format": "json", "content": book}).encode(),
        {"Content-Type": "application/json"},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        if answer.status != 201:
            raise CheckFailed(f"Jupyter did not save a notebook: {answer.status}")
    before = gold(check)
    for name in ("own", "1_exploration", "4_metrics_cookbook"):
        began = time.monotonic()
        check.compose("exec", "-T", "jupyter", "jupyter", "execute", "--inplace", f"notebooks/{name}.ipynb")
        check.say(f"Jupyter: {name}.ipynb saved and run, {time.monotonic() - began:.0f} s")
    said = check.compose("exec", "-T", "jupyter", "cat", "notebooks/own.ipynb")
    if not json.loads(said)["cells"][0]["outputs"]:
        raise CheckFailed("the notebook's cell shows nothing")
    if gold(check) != before:
        raise CheckFailed("a notebook that has a lakehouse of its own changed the shared one")
    check.say("the notebooks left the shared lakehouse as it was")


def history(check: Check) -> None:
    """The history server shows the Connect server's application."""
    url = f"http://127.0.0.1:{check.ports['PORT_SPARK_HISTORY']}/api/v1/applications"

    def shown() -> bool:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(json.load(answer))

    seconds = check.wait("the history server shows an application", shown)
    check.say(f"the history page shows Spark's application, after {seconds:.0f} s")


def broken(check: Check, day: str) -> None:
    """Each part killed while a run computes; what heals by itself and when, and that the tables are the same."""
    before = gold(check)
    for service in KILLED:
        check.wait("no run is left", lambda: not _running(check), 600)
        began = time.monotonic()

        def kill(name: str = service) -> None:
            check.wait("a run computes", lambda: _computing(check), 300)
            time.sleep(3)  # into the run's first table
            check.kill(name)

        state = backfill(check.web(), day, day, SOME_TABLES, kill)
        check.wait(f"everything is healthy after {service} was killed", check.all_healthy)
        check.wait("no run is left", lambda: not _running(check), 600)
        after = gold(check)
        if other := [name for name in before if after[name] != before[name]]:
            raise CheckFailed(f"{service} killed in a run: {', '.join(other)} changed")
        if state != "COMPLETED_SUCCESS":
            raise CheckFailed(f"{service} killed in a run: it ended as {state}")
        check.say(f"{service} killed in a run: {state}, {time.monotonic() - began:.0f} s, tables the same")
    check.wait("every daemon of Dagster's is healthy", lambda: _daemons(check))


def _computing(check: Check) -> bool:
    runs = ask(check.web(), _STATE)["runsOrError"]["results"]
    return any(run["status"] == "STARTED" and run["jobName"] == _BACKFILLS for run in runs)


def _daemons(check: Check) -> bool:
    health = ask(check.web(), _DAEMONS)["instance"]["daemonHealth"]["allDaemonStatuses"]
    return all(one["healthy"] for one in health if one["required"])


def down_and_up(check: Check) -> None:
    """`make stack-down` leaves no container and all data."""
    before = gold(check)
    _, seconds = check.make("stack-down")
    if left := check.containers():
        raise CheckFailed(f"make stack-down left {', '.join(left)}")
    check.say(f"make stack-down: {seconds:.0f} s, no container is left, of a profile neither")
    _, seconds = check.make("stack")
    check.wait("every service is healthy", check.all_healthy, 120)
    if gold(check) != before:
        raise CheckFailed("gold is another after down and up")
    said = check.compose("run", "--rm", "--no-deps", "-T", "jupyter", "ls", "/opt/lakehouse/notebooks")
    if "own.ipynb" not in said:
        raise CheckFailed("a saved notebook is gone after down and up")
    check.say(f"make stack: {seconds:.0f} s; gold, Dagster's records and notebooks are as before")


def _serves(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)


def one_day(check: Check, day: str) -> None:
    """A day of every table through the API of Dagster's page, on a code server that started before anything landed."""
    began, before = time.monotonic(), gold(check)
    state = backfill(check.web(), day, day)
    if state != "COMPLETED_SUCCESS" or gold(check) != before:
        raise CheckFailed(f"the backfill of {day} ended as {state}, or changed gold")
    check.say(f"backfill of {day}, every table, through the UI's API: {time.monotonic() - began:.0f} s, gold the same")


def run(folder: Path) -> None:
    """All of it."""
    with own_docker.running(folder) as docker:
        check = Check(docker, folder)
        check.say("dockerd, a registry and Compose run")
        docker.run(["docker", "volume", "prune", "--force"])
        made = images.provide(docker)
        check.say(f"images of {', '.join(made) or 'earlier'}")
        copy_project(check.clone)
        try:
            start(check)
            start_again(check)
            demo(check)
            day = last_day(check)
            one_day(check, day)
            notebook(check)
            history(check)
            broken(check, day)
            down_and_up(check)
        except BaseException:
            for name, one in check.containers().items():
                state = one["State"]
                print(f"{name}: {state['Status']} {state.get('Health', {}).get('Status', '')}", file=sys.stderr)
            raise
        finally:
            check.tried("docker", "compose", "--profile", "*", "down", "--volumes", "--timeout", "5")
        check.say("everything held; all of it is ended")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check in a folder that keeps images for the next time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=cache_dir() / "stack-check", help="keeps images; default a cache"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what the folder has kept")
    options = parser.parse_args(arguments)
    if options.fresh:
        shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        run(options.folder.absolute())
    except (CheckFailed, RehearsalFailed, ServiceFailed, SetupError) as error:
        print(f"stack-check: {error}\nlogs of Docker are in {options.folder}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
