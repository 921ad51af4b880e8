"""`make rehearsal`: the whole stack as plain processes, the demo, a backfill from the UI's API, and the same digests.

S3 server, REST catalog, Postgres, Spark master, two workers and Connect server, Dagster's code server, daemon and
webserver, each started as docker-compose.yaml starts it, with free ports of loopback. The demo's data is computed on
it and embedded, and the digest of every gold table has to be the same. Ends everything it started.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lakehouse_assets.errors import SetupError
from lakehouse_assets_tests.stack.services import (
    ROOT,
    Service,
    ServiceFailed,
    Stack,
    answers,
    free_port,
    running,
    serves,
    start_postgres,
)

BACKFILL_SECONDS = 1200
_LAUNCH = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
_STATE = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename ... on PartitionBackfill { status numPartitions error { message } }
  }
}
"""
_ASSETS = "{ assetNodes { assetKey { path } isPartitioned groupName } }"


class RehearsalFailed(RuntimeError):
    """A step of the rehearsal went wrong; the message says which."""


def start_dagster(stack: Stack, ends: ExitStack) -> int:
    """Code server, daemon and webserver as separate processes; the webserver's port."""
    home = stack.folder / "home"
    environment = {
        **stack.environment,
        "DAGSTER_HOME": str(home / "dagster"),
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
    }
    code_port, web_port = free_port(), free_port()
    workspace = stack.folder / "workspace.yaml"
    workspace.write_text(
        (ROOT / "spark/workspace.yaml").read_text().replace("dagster-code", "127.0.0.1").replace("4000", str(code_port))
    )
    dagster = Path(sys.executable).parent

    def part(name: str, *command: str) -> Service:
        service = Service(name, [dagster / command[0], *command[1:]], environment, stack.folder / f"{name}.log")
        ends.callback(service.stop)
        return service

    where = ["-h", "127.0.0.1", "-p", str(code_port), "-m", "lakehouse_assets.definitions"]
    part("dagster-code", "dagster", "code-server", "start", *where).start(lambda: answers(code_port))
    part("dagster-daemon", "dagster-daemon", "run", "-w", str(workspace)).start(lambda: True)
    web = ["-h", "127.0.0.1", "-p", str(web_port), "-w", str(workspace)]
    part("dagster-webserver", "dagster-webserver", *web).start(
        lambda: serves(f"http://127.0.0.1:{web_port}/server_info")
    )
    return web_port


def ask(port: int, query: str, **variables: Any) -> dict[str, Any]:
    """What the UI would ask its server."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        told: dict[str, Any] = json.load(answer)
    if told.get("errors"):
        raise RehearsalFailed(f"Dagster: {told['errors'][0]['message']}")
    return told["data"]


def backfill(
    port: int,
    first: str,
    last: str,
    tables: Collection[str] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> str:
    """Backfill tables for a range as the UI does, and wait for its end; its final state.

    Args:
        port: of Dagster's web server.
        first: of the days.
        last: of the days.
        tables: default every table.
        meanwhile: called when the backfill is launched.
    """
    nodes = ask(port, _ASSETS)["assetNodes"]
    keys = [node["assetKey"] for node in nodes if node["isPartitioned"]]
    if tables:
        keys = [key for key in keys if ".".join(key["path"]) in tables]
    params = {
        "partitionsByAssets": [
            {"assetKey": key, "partitions": {"range": {"start": first, "end": last}}} for key in keys
        ],
        "title": "rehearsal",
    }
    launched = ask(port, _LAUNCH, params=params)["launchPartitionBackfill"]
    if launched["__typename"] != "LaunchBackfillSuccess":
        raise RehearsalFailed(f"the backfill was not launched: {launched}")
    meanwhile()
    deadline = time.monotonic() + BACKFILL_SECONDS
    while time.monotonic() < deadline:
        state = ask(port, _STATE, id=launched["backfillId"])["partitionBackfillOrError"]
        if state["status"] not in ("REQUESTED", "CANCELING"):
            return str(state["status"])
        time.sleep(2)
    raise RehearsalFailed(f"the backfill {first} … {last} has not ended within {BACKFILL_SECONDS} s")


def gold_digests(run: Any, folder: Path) -> Mapping[str, str]:
    """A digest of every gold table as the command exports it."""
    folder.mkdir(exist_ok=True)
    names = [line.split()[0] for line in told(run("tables")).splitlines() if line.startswith("gold.")]
    found = {}
    for name in names:
        told(run("export", name, "-o", folder / f"{name}.csv"))
        found[name] = hashlib.sha256((folder / f"{name}.csv").read_bytes()).hexdigest()
    return found


def told(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said.

    Raises:
        RehearsalFailed: it failed.
    """
    if done.returncode:
        raise RehearsalFailed(f"{' '.join(map(str, done.args[3:]))}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def embedded(home: Path) -> Any:
    """The command on an embedded lakehouse in a folder."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LAKEHOUSE_HOME": str(home)}
    environment |= {key: value for key, value in os.environ.items() if key in ("LAKEHOUSE_CACHE", "JAVA_HOME")}

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lakehouse_assets.cli", *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

    return run


def rehearse(folder: Path) -> None:
    """All of it, each step with its time.

    Raises:
        RehearsalFailed: a step failed, or a digest is another than that of the embedded run.
    """
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"rehearsal: {time.monotonic() - began:6.1f} s  {line}", flush=True)

    with ExitStack() as ends:
        stack = ends.enter_context(running(folder, spark=True))
        say("S3 server, REST catalog, Spark master, 2 workers and Connect server run")
        stack.environment["DAGSTER_POSTGRES_URL"] = start_postgres(folder / "postgres", ends)
        told(stack.lakehouse("demo", seconds=1800))
        say("demo: sample data -> every table, Dagster's records in Postgres")
        web = start_dagster(stack, ends)  # only now, as its sensor would compute the same days meanwhile
        say("Dagster's code server, daemon and webserver run")
        before = gold_digests(stack.lakehouse, folder / "before")
        days = [
            line.split()[-3:] for line in told(stack.lakehouse("tables")).splitlines() if "gold.daily_metrics" in line
        ]
        last = days[0][2]
        first = (time.strftime("%Y-%m-", time.strptime(last, "%Y-%m-%d"))) + "01"
        state = backfill(web, first, last)
        if state != "COMPLETED_SUCCESS":
            raise RehearsalFailed(f"the backfill {first} … {last} ended as {state}")
        say(f"backfill {first} … {last} through the UI's API: {state}")
        after = gold_digests(stack.lakehouse, folder / "after")
        if after != before:
            raise RehearsalFailed("a backfill of the same data changed gold")
        run = embedded(folder / "embedded")
        told(run("demo"))
        say("the same demo, embedded")
        same = gold_digests(run, folder / "same")
        for name in sorted({*after, *same}):
            if after.get(name) != same.get(name):
                raise RehearsalFailed(f"{name}: {after.get(name)} on the stack, {same.get(name)} embedded")
            say(f"{name:<28} {same[name][:16]}  the same")
    say(f"everything ended; {len(same)} gold tables are the same")


def main() -> int:
    """Rehearse in a folder that is removed again if all went well; told to end, end what was started too."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    try:
        rehearse(folder / "stack")
    except (RehearsalFailed, ServiceFailed, SetupError) as error:
        print(f"rehearsal: {error}\nlogs are in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
