"""Sail in a process of its own, for tests whose process has Spark: a process can't have both.

`python -m lakehouse_assets_tests.sail_process` reads one JSON list a line, the name of a task and its arguments, and
answers each with a line: an empty text, or what went wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from lakehouse_assets.engines.sail import start_sail
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.runner import Runner
from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.test_golden import TABLES, Composed

WITHOUT_A_TRANSFORM = ("bronze.interactions", "bronze.users", "silver.interaction_routing")
COMPOSED = [name for name in TABLES if name not in WITHOUT_A_TRANSFORM]


def composed(session: SparkSession, landing: Path) -> dict[str, pa.Table]:
    """Every table that the transforms make of a landing zone."""
    tables = Composed(session, landing)
    return {name: tables.table(name).toArrow() for name in COMPOSED}


def compose(landing: str, folder: str) -> None:
    """Write every table that the transforms make of a landing zone into files of a folder."""
    for name, table in composed(start_sail(load_settings()), Path(landing)).items():
        pq.write_table(table, Path(folder) / f"{name}.parquet")


def run(settings: Mapping[str, Any]) -> None:
    """Bring a lakehouse up to date."""
    lakehouse = Lakehouse(load_settings(**settings))
    Runner(lakehouse, lambda _: None).run_stale(lakehouse.zone.listings())


TASKS: dict[str, Callable[..., None]] = {"compose": compose, "run": run}


class SailProcess:
    """The other end: asks for tasks."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log

    def do(self, task: str, *arguments: object) -> None:
        """Have a task done.

        Raises:
            AssertionError: it failed; with its stack trace.
        """
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([task, *arguments]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, self._log.read_text()[-5000:]
        wrong = json.loads(answer)
        assert not wrong, wrong


@contextmanager
def sail_process(log: Path, **environment: str) -> Iterator[SailProcess]:
    """A process of Sail's for as long as the block takes.

    Args:
        log: the file for what it says besides.
        environment: besides that of this process.
    """
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "lakehouse_assets_tests.sail_process"],
            env=os.environ | {"LAKEHOUSE_ENGINE": "sail"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield SailProcess(process, log)
        finally:
            assert process.stdin
            process.stdin.close()


def main() -> None:
    """Answer until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Dagster prints is no answer
    for line in sys.stdin:
        task, *arguments = json.loads(line)
        try:
            TASKS[task](*arguments)
            wrong = ""
        except Exception:
            wrong = traceback.format_exc()
        print(json.dumps(wrong), file=answers, flush=True)


if __name__ == "__main__":
    main()
