"""`make stack-check`: `make stack` from nothing, in a Docker of its own, and what must hold of it.

    python -m lakehouse_assets_tests.stack.check [--folder DIR] [--fresh] [--step NAME]...

docker-compose.yaml, Dockerfile and the Makefile's targets run as they stand, in a copy of this project without its
caches. Only two things differ from a machine with a network: images come from a local registry, made by `images.py`,
**with the tests' REST catalog in Polaris's place**; and silo's digest, which that registry can't have, is overridden.
Needs root and Debian's docker.io, iptables, docker-registry and mmdebstrap. What does not hold is told, and the rest is
tried all the same; the end says all of it again.
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
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from lakehouse_assets.cache import cache_dir
from lakehouse_assets.engines.choice import ENGINE_TAG
from lakehouse_assets.errors import SetupError
from lakehouse_assets.stack.environment import PORTS
from lakehouse_assets_tests.conftest import HEADERS
from lakehouse_assets_tests.stack import docker as own_docker
from lakehouse_assets_tests.stack import images
from lakehouse_assets_tests.stack.docker import Docker
from lakehouse_assets_tests.stack.rehearsal import RehearsalFailed, ask, backfill, embedded, told
from lakehouse_assets_tests.stack.services import ROOT, ServiceFailed, free_port

ONCE = ("volumes-ready", "provision")  # which end when they have done what they are for
# what is killed while which engine computes
KILLED = (
    ("spark-worker-1", "spark"),
    ("spark-connect", "spark"),
    ("s3", "spark"),
    ("s3", "sail"),
    ("dagster-code", "sail"),
    ("dagster-daemon", "sail"),
)
SOME_TABLES = ("silver.interactions", "silver.user_days", "gold.daily_metrics", "gold.session_metrics")
NEW_ROWS = 100
HEAL_SECONDS = 180
_RUNS = """{ runsOrError(limit: 50) { ... on Runs { results {
  runId status jobName creationTime startTime endTime tags { key value }
} } } }"""
_ERRORS = """query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  ... on ExecutionStepFailureEvent { error { message cause { message } } } ... on RunFailureEvent { message }
} } } }"""
_BACKFILLS = "__ASSET_JOB"  # what Dagster calls the job of a backfill's runs
_DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"
_LAND = "cat > /tmp/new.csv && lakehouse land interactions /tmp/new.csv"
_UP_TO_DATE = "everything is up to date"
_SETTINGS = "/var/lakehouse/lakehouse.toml"
_TO_SPARK = f"echo 'sail_rows = 0' > {_SETTINGS}"

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


@dataclass(frozen=True)
class Run:
    """A run as Dagster's page shows it."""

    id: str
    status: str
    job: str
    engine: str
    asked: float
    began: float
    ended: float

    @property
    def has_ended(self) -> bool:
        return self.status in ("SUCCESS", "FAILURE", "CANCELED")


class Check:
    """The stack of one run of the check."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self.docker = docker
        self.clone = folder / "clone"
        self.began = time.monotonic()
        self.day = ""  # the last one that somebody was active, once the demo has run
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

    def compose(self, *arguments: str, told: str = "") -> str:
        return self.docker.run(["docker", "compose", *arguments], self.clone, self.environment, told)

    def python(self, script: str) -> str:
        """Run a script in the code server's container, where the lakehouse is the stack's."""
        return self.compose("exec", "-T", "dagster-code", "python", "-c", script)

    def shell(self, script: str, told: str = "") -> str:
        """Run a line of shell there."""
        return self.compose("exec", "-T", "dagster-code", "sh", "-c", script, told=told)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What Docker says of each service's container."""
        ids = self.docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=lakehouse").split()
        found = json.loads(self.docker("inspect", *ids)) if ids else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}

    def kill(self, service: str) -> None:
        """End a service's container as a lack of memory would: its first process is killed from outside."""
        os.kill(self.containers()[service]["State"]["Pid"], signal.SIGKILL)

    def web(self) -> int:
        return self.ports["PORT_DAGSTER"]

    def runs(self) -> list[Run]:
        """The latest of Dagster's runs."""
        return [
            Run(
                run["runId"],
                run["status"],
                run["jobName"],
                {tag["key"]: tag["value"] for tag in run["tags"]}.get(ENGINE_TAG, ""),
                *(run[moment] or 0.0 for moment in ("creationTime", "startTime", "endTime")),
            )
            for run in ask(self.web(), _RUNS)["runsOrError"]["results"]
        ]

    def rest(self) -> None:
        """Wait until no run is left."""
        self.wait("no run is left", lambda: all(run.has_ended for run in self.runs()), 600)

    def errors(self, before: Sequence[Run]) -> str:
        """What the runs that failed since have said."""
        said: list[str] = []
        for run in self.runs():
            if run.status == "FAILURE" and run.id not in {one.id for one in before}:
                for event in ask(self.web(), _ERRORS, id=run.id)["logsForRun"]["events"]:
                    error = event.get("error") or {}
                    said += [error.get("message", ""), (error.get("cause") or {}).get("message", "")]
                    said += [event.get("message", "")]
        return "; ".join(dict.fromkeys(filter(None, (line.strip() for line in said))))

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


def demo(check: Check) -> None:
    """The demo, whose gold is that of the same demo in a folder of this machine."""
    _, seconds = check.make("stack-demo")
    check.rest()
    check.day = check.python(_LAST_DAY).split()[-1]
    check.say(f"make stack-demo: {seconds:.0f} s, computed by {_engines(check.runs())}")
    folder = check.clone.parent / "lake"
    shutil.rmtree(folder, ignore_errors=True)
    told(embedded(folder)("demo"))
    script = [sys.executable, "-c", _DIGESTS]
    environment = os.environ | {"LAKEHOUSE_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    same = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    _same(check, _digests(told(same)), "the demo in a folder")
    check.say(f"its {len(gold(check))} gold tables have the digests of the same demo in a folder")


def _engines(runs: Sequence[Run]) -> str:
    return " and ".join(sorted({run.engine for run in runs if run.engine})) or "nothing"


def gold(check: Check) -> dict[str, str]:
    """A digest of every gold table, as exported."""
    return _digests(check.python(_DIGESTS))


def _digests(said: str) -> dict[str, str]:
    return dict(line.split() for line in said.splitlines() if line.startswith("gold."))


def _same(check: Check, before: Mapping[str, str], what: str) -> None:
    now = gold(check)
    if other := [name for name in sorted({*before, *now}) if now.get(name) != before.get(name)]:
        raise CheckFailed(f"{what}: other rows in {', '.join(other)}")


def a_new_day(check: Check) -> None:
    """A small file is delivered, and Dagster's sensor brings every table up to date, without the cluster."""
    check.rest()
    before = {run.id for run in check.runs()}
    new = date.fromisoformat(check.day) + timedelta(days=1)
    rows = [f"new{n % 40},{new} 00:{n % 60:02}:00,edit,p{n},100,1.0.0" for n in range(NEW_ROWS)]
    check.shell(_LAND, "\n".join([HEADERS["interactions"], *rows, ""]))
    landed = time.time()

    def computed() -> list[Run]:
        return [run for run in check.runs() if run.id not in before and run.has_ended]

    check.wait("the sensor has all tables computed", lambda: _UP_TO_DATE in check.shell("lakehouse tables"), 300)
    check.rest()
    if (last := check.python(_LAST_DAY).split()[-1]) != str(new):
        raise CheckFailed(f"{new} was delivered, and the last day of gold.daily_metrics is {last}")
    runs = computed()
    if _engines(runs) != "sail" or any(run.status != "SUCCESS" for run in runs):
        raise CheckFailed(f"a day of {NEW_ROWS} rows: {runs}")
    each = ", ".join(f"{run.ended - run.began:.0f}" for run in reversed(runs))
    check.say(
        f"{NEW_ROWS} rows of {new} delivered: every table after {max(run.ended for run in runs) - landed:.0f} s, "
        f"{len(runs)} runs of {each} s, computed by sail"
    )
    check.day = str(new)


def one_day(check: Check) -> None:
    """A day of every table through the API of Dagster's page, on a code server that started before anything landed."""
    _backfilled(check, (), "sail")


def a_large_run(check: Check) -> None:
    """What reads more than LAKEHOUSE_SAIL_ROWS rows goes to the cluster."""
    check.shell(_TO_SPARK)
    try:
        _backfilled(check, SOME_TABLES, "spark")
    finally:
        check.shell(f"rm {_SETTINGS}")


def _backfilled(check: Check, tables: Sequence[str], engine: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Backfill the last day, whatever happens meanwhile: it ends well and gold is the same."""
    check.rest()
    before, began, rows = check.runs(), time.monotonic(), gold(check)
    state = backfill(check.web(), check.day, check.day, tables, meanwhile)
    seconds = time.monotonic() - began
    check.wait("every service is healthy", check.all_healthy)
    check.rest()
    runs = [run for run in check.runs() if run.id not in {one.id for one in before}]
    failed = sum(run.status != "SUCCESS" for run in runs)
    said = check.errors(before)
    what = f"backfill of {check.day}, {'some' if tables else 'all'} tables, through the UI's API: {state}"
    if state != "COMPLETED_SUCCESS":
        raise CheckFailed(f"{what}; {said}")
    _same(check, rows, what)
    if _engines(runs) != engine:
        raise CheckFailed(f"{what}, but computed by {_engines(runs)}")
    again = f", {failed} of {len(runs)} runs tried again ({said})" if failed else ""
    check.say(f"{what}, {seconds:.0f} s, computed by {engine}, gold the same{again}")


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
    _same(check, before, "a notebook that has a lakehouse of its own changed the shared one")
    check.say("the notebooks left the shared lakehouse as it was")


def history(check: Check) -> None:
    """The history server shows the Connect server's application."""
    url = f"http://127.0.0.1:{check.ports['PORT_SPARK_HISTORY']}/api/v1/applications"

    def shown() -> bool:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(json.load(answer))

    seconds = check.wait("the history server shows an application", shown)
    check.say(f"the history page shows Spark's application, after {seconds:.0f} s")


def broken(check: Check, service: str, engine: str) -> None:
    """A part is killed while a run computes: the backfill ends well all the same, and the tables are the same."""

    def kill() -> None:
        check.wait("a run computes", lambda: _computes(check), 300)
        time.sleep(3)  # into the run's first tables
        if not _computes(check):
            raise CheckFailed(f"the run had ended before {service} was killed")
        check.kill(service)
        check.say(f"{service} killed while {engine} computes")

    if engine == "spark":
        check.shell(_TO_SPARK)
    try:
        _backfilled(check, SOME_TABLES if engine == "spark" else (), engine, kill)
    finally:
        if engine == "spark":
            check.wait("the code server answers", lambda: bool(check.shell(f"rm -f {_SETTINGS}; echo done")))
    check.wait("every daemon of Dagster's is healthy", lambda: _daemons(check))


def _computes(check: Check) -> bool:
    return any(run.status == "STARTED" and run.job == _BACKFILLS for run in check.runs())


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
    _same(check, before, "after down and up")
    said = check.compose("run", "--rm", "--no-deps", "-T", "jupyter", "ls", "/opt/lakehouse/notebooks")
    if "own.ipynb" not in said:
        raise CheckFailed("a saved notebook is gone after down and up")
    check.say(f"make stack: {seconds:.0f} s; gold, Dagster's records and notebooks are as before")


def _serves(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)


def steps(check: Check) -> list[tuple[str, Callable[[], None]]]:
    """What is tried of a stack that has started, in this order."""
    kills = [
        (f"{name} killed while {engine} computes", partial(broken, check, name, engine)) for name, engine in KILLED
    ]
    return [
        ("a second start", partial(start_again, check)),
        ("the demo", partial(demo, check)),
        ("a day of every table from the UI's API", partial(one_day, check)),
        ("a new day", partial(a_new_day, check)),
        ("a large run", partial(a_large_run, check)),
        ("notebooks", partial(notebook, check)),
        ("the history page", partial(history, check)),
        *kills,
        ("down and up", partial(down_and_up, check)),
    ]


def run(folder: Path, named: Sequence[str] = ()) -> list[str]:
    """All of it, or after the start the steps that are named; what did not hold."""
    failed = []
    with own_docker.running(folder) as docker:
        check = Check(docker, folder)
        if unknown := set(named).difference(name for name, _ in steps(check)):
            known = ", ".join(name for name, _ in steps(check))
            raise CheckFailed(f"there is no step {', '.join(unknown)}; there are {known}")
        check.say("dockerd, a registry and Compose run")
        docker.run(["docker", "volume", "prune", "--force"])
        made = images.provide(docker)
        check.say(f"images of {', '.join(made) or 'earlier'}")
        copy_project(check.clone)
        try:
            start(check)
            for name, step in steps(check):
                if named and name not in named:
                    continue
                try:
                    step()
                except (CheckFailed, RehearsalFailed, SetupError, OSError) as error:
                    failed.append(f"{name}: {error}")
                    check.say(f"FAILED: {failed[-1]}")
        finally:
            (folder / "compose.log").write_text(check.tried("docker", "compose", "--profile", "*", "logs").stdout)
            for name, one in check.containers().items():
                if name not in ONCE:
                    state = one["State"]
                    check.say(f"{name}: {state['Status']} {state.get('Health', {}).get('Status', '')}")
            check.tried("docker", "compose", "--profile", "*", "down", "--volumes", "--timeout", "5")
        check.say("all of it is ended")
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Check in a folder that keeps images for the next time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=cache_dir() / "stack-check", help="keeps images; default a cache"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what the folder has kept")
    parser.add_argument("--step", action="append", default=[], metavar="NAME", help="instead of all; may be repeated")
    options = parser.parse_args(arguments)
    if options.fresh:
        shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        failed = run(options.folder.absolute(), options.step)
    except (CheckFailed, RehearsalFailed, ServiceFailed, SetupError) as error:
        failed = [str(error)]
    for line in failed:
        print(f"stack-check: {line}", file=sys.stderr)
    print(f"stack-check: {f'{len(failed)} failed' if failed else 'everything held'}; logs are in {options.folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
