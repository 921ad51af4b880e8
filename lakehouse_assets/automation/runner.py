"""Runs Dagster in this process for the days that need it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import dagster as dg
from dagster._core.instance.ref import InstanceRef

from lakehouse_assets.automation.jobs import JOB, check_range
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.io.landing import Looks
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings
from lakehouse_assets.stamps import Work

Say = Callable[[str], None]

# Batches the per-partition events of a range run: 16 ms an event with the default storage, 0.8 ms with this one.
_INSTANCE = """\
telemetry:
  enabled: false
nux:  # no dialog that asks for an e-mail address
  enabled: false
event_log_storage:
  module: lakehouse_assets.io.event_log
  class: BatchingSqliteEventLogStorage
  config:
    base_dir: {base_dir}
"""

# Here the output is in front of the person; capturing it too starts four processes a run.
_IN_A_TERMINAL = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}


def dagster_home(settings: Settings) -> Path:
    """Dagster's instance folder of a lakehouse, made ready."""
    home = settings.dagster_path
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(_INSTANCE.format(base_dir=home / "history" / "runs"))
    return home


class Runner:
    """Plans and executes runs of one lakehouse."""

    def __init__(self, lakehouse: Lakehouse, say: Say) -> None:
        self._lakehouse = lakehouse
        self._say = say

    def run_stale(self, before: Looks) -> list[Work]:
        """Bring every table up to date with what is landed and complete.

        Args:
            before: an earlier look at the landing zone; a date whose files changed since is left for the next run.

        Returns:
            The runs made.
        """
        now = self._lakehouse.zone.look_at_all()
        growing = {
            (dataset, day)
            for dataset, days in now.items()
            for day in days
            if day in before[dataset] and days[day] != before[dataset][day]
        }
        for dataset, day in sorted(growing):
            self._say(f"{dataset} {day}: files are still being written; left for the next run")
        left = {day for _, day in growing}

        def stale_work() -> Iterator[Work]:
            for from_files in (True, False):
                stale = self._lakehouse.stamps.stale(now, from_files=from_files)
                yield from self._lakehouse.stamps.work({name: days - left for name, days in stale.items()})

        return self._execute(stale_work())

    def run_range(self, first: date, last: date) -> list[Work]:
        """Compute every table for the days ``first`` … ``last``, up to date or not.

        Raises:
            RangeError: there are no partitions for some of these days.
        """
        check_range(self._lakehouse, first, last)
        return self._execute(iter([Work(tuple(self._lakehouse.tables), first, last)]))

    def _execute(self, work: Iterator[Work]) -> list[Work]:
        """Execute runs one after the other; each is planned when the one before has ended."""
        done: list[Work] = []
        job = build_definitions(self._lakehouse).resolve_job_def(JOB)
        with self._instance() as instance:
            for one in work:
                self._execute_one(job, instance, one)
                done.append(one)
        self._lakehouse.zone.save_index()
        return done

    def _execute_one(self, job: dg.JobDefinition, instance: dg.DagsterInstance, work: Work) -> None:
        run_id = str(uuid.uuid4())
        instance.add_event_listener(run_id, _Progress(self._say, work))
        job.execute_in_process(
            instance=instance,
            run_id=run_id,
            asset_selection=[dg.AssetKey(name.split(".")) for name in work.tables],
            tags={
                "dagster/asset_partition_range_start": work.first.isoformat(),
                "dagster/asset_partition_range_end": work.last.isoformat(),
            },
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )

    @contextmanager
    def _instance(self) -> Iterator[dg.DagsterInstance]:
        home = dagster_home(self._lakehouse.settings)
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=_IN_A_TERMINAL)) as instance:
            yield instance


class _Progress:
    """Says each finished table with its time, how many are done, and about how long is left."""

    def __init__(self, say: Say, work: Work) -> None:
        self._say = say
        self._work = work
        self._began = time.monotonic()
        self._started: dict[str, float] = {}
        self._done = 0
        span = f"{work.first}" if work.days == 1 else f"{work.first} … {work.last} ({work.days} days)"
        say(f"{span}: {len(work.tables)} tables")

    def __call__(self, event: dg.EventLogEntry) -> None:
        kind, step = event.dagster_event_type, event.step_key or ""
        if kind == dg.DagsterEventType.STEP_START:
            self._started[step] = time.monotonic()
        if kind != dg.DagsterEventType.STEP_SUCCESS or step.startswith("check_"):
            return
        now = time.monotonic()
        self._done += 1
        total = len(self._work.tables)
        left = (now - self._began) / self._done * (total - self._done)
        name = step.replace("__", ".")
        self._say(f"  {self._done}/{total} {name:<32} {now - self._started[step]:5.1f} s   about {left:.0f} s left")
