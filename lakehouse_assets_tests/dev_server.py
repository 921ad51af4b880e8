"""`lakehouse dev` as a process of a test's own, and what its pages ask it and have it do."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError

from lakehouse_assets_tests.stack.services import free_port

PATIENCE_SECONDS = 300
Found = TypeVar("Found")


@contextmanager
def dev(home: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`lakehouse dev` and its port, a free one; at the end it and all it started are gone."""
    port = free_port()
    with (home.parent / "dev.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lakehouse_assets.cli", "dev", "--port", str(port)],
            env=environment(home) | settings,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, port
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


LOCATION = {"repositoryLocationName": "lakehouse_assets.definitions", "repositoryName": "__repository__"}
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_TICKS = """
query ($sensor: SensorSelector!) {
  sensorOrError(sensorSelector: $sensor) {
    ... on Sensor { sensorState { ticks(limit: 20) { status timestamp skipReason runIds error { message } } } }
  }
}
"""
_LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
_BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
_BACKFILL_STATE = """
query ($backfill: String!) {
  partitionBackfillOrError(backfillId: $backfill) { ... on PartitionBackfill { status } }
}
"""
_BACKFILL_ENDED = ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED")
_RUNS = """
query {
  runsOrError(limit: 100) {
    ... on Runs {
      results { runId status jobName startTime endTime tags { key value } assetSelection { path } }
    }
  }
}
"""
_RELOAD = """
mutation ($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message } } }
  }
}
"""


class Server:
    """A running `lakehouse dev`, asked through GraphQL as its pages ask it.

    Attributes:
        home: the lakehouse's folder.
        port: the web server's.
    """

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port = home, port

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """What a GraphQL query answers."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = json.load(answer)
        except HTTPError as error:  # the query is none; the answer says where
            found = json.load(error)
        assert "errors" not in found, found["errors"]
        return found["data"]

    def is_ready(self) -> bool:
        """Whether the definitions are loaded."""
        try:
            found = self.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")
        except OSError:
            return False
        return bool(found["repositoriesOrError"].get("nodes"))

    def ticks(self, sensor: str = "landing") -> list[dict[str, Any]]:
        """The newest ticks of a sensor, newest first."""
        found = self.ask(_TICKS, sensor={**LOCATION, "sensorName": sensor})
        return found["sensorOrError"]["sensorState"]["ticks"]

    def next_tick(self, sensor: str = "landing") -> dict[str, Any]:
        """The first tick of a sensor that begins after this moment and has ended."""
        now = time.time()
        return wait_for(
            lambda: [t for t in self.ticks(sensor) if t["timestamp"] > now and t["status"] != "STARTED"], "a tick"
        )[-1]

    def runs(self) -> list[dict[str, Any]]:
        """All runs, newest first, their tags as a dictionary."""
        found = self.ask(_RUNS)["runsOrError"]["results"]
        return [run | {"tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def reload(self) -> str:
        """What the button that loads the definitions again answers; the empty text if all is well."""
        found = self.ask(_RELOAD, name=LOCATION["repositoryLocationName"])["reloadRepositoryLocation"]
        return found.get("locationOrLoadError", {}).get("message", "")

    def launch(
        self,
        job: str = "__ASSET_JOB",
        assets: Sequence[str] = (),
        checks: Sequence[tuple[str, str]] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Launch a run as the pages do, and wait for its end.

        Args:
            job: its name; the default is that of the Materialize button.
            assets: names of tables such as ``gold.daily_metrics``; none: all of the job's.
            checks: table and name of each check; without any, those of the assets.
            tags: such as its partitions.
        """
        selector: dict[str, Any] = {**LOCATION, "pipelineName": job}
        selector["assetSelection"] = [{"path": name.split(".")} for name in assets]
        if checks is not None:
            selector["assetCheckSelection"] = [
                {"assetKey": {"path": table.split(".")}, "name": name} for table, name in checks
            ]
        params = {
            "selector": selector,
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]},
        }
        launched = self.ask(_LAUNCH, params=params)["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return self.ended(launched["run"]["runId"])

    def backfill(self, assets: Sequence[str], days: Sequence[str]) -> list[dict[str, Any]]:
        """Backfill days of tables as the asset graph's page does, and wait for its end; its runs."""
        chosen = [{"path": name.split(".")} for name in assets]
        launched = self.ask(_BACKFILL, params={"assetSelection": chosen, "partitionNames": list(days)})
        backfill = launched["launchPartitionBackfill"].get("backfillId")
        assert backfill, launched
        wait_for(
            lambda: (
                self.ask(_BACKFILL_STATE, backfill=backfill)["partitionBackfillOrError"]["status"] in _BACKFILL_ENDED
            ),
            f"the end of backfill {backfill}",
        )
        return [run for run in self.runs() if run["tags"].get("dagster/backfill") == backfill]

    def ended(self, run_id: str) -> dict[str, Any]:
        """A run when it has ended."""
        return wait_for(
            lambda: next((run for run in self.runs() if run["runId"] == run_id and run["status"] in ENDED), None),
            f"the end of run {run_id}",
        )


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[Server]:
    """`lakehouse dev` with its definitions loaded."""
    with dev(home, **settings) as (_, port):
        server = Server(home, port)
        wait_for(server.is_ready, "the definitions")
        yield server


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_DRIVER_MEMORY": "1g"}


def wait_for(what: Callable[[], Found | None], why: str) -> Found:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {PATIENCE_SECONDS} s for {why}")
