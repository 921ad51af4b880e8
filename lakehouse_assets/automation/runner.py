"""Runs Dagster in this process for the days that need it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date
from itertools import chain

import dagster as dg

from lakehouse_assets.automation.instance import PROCESS_TAG, terminal_instance
from lakehouse_assets.automation.jobs import JOB, run_tags
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.io.landing import Looks, signatures
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.partitions import at_most, some
from lakehouse_assets.stamps import Work

Say = Callable[[str], None]
_TOLD = 3  # files that can't be read, named in one sentence


class DaysLeftOut(ValueError):
    """Landing dates with a file that can't be read; every other day that is complete is up to date.

    Attributes:
        work: the runs made.
    """

    def __init__(self, refused: Mapping[date, str], work: Sequence[Work]) -> None:
        self.work = work
        sentences = at_most([refused[day] for day in sorted(refused)], _TOLD)
        super().__init__("; ".join([*sentences, "every other day that is complete is up to date"]))


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

        Raises:
            DaysLeftOut: there are files that can't be read; told when every other day has been computed.
        """
        zone = self._lakehouse.zone
        seen = zone.look_at_all()
        incomplete = zone.incomplete(signatures(before), signatures(seen))
        divided = self._lakehouse.divide_again(self._say)
        now = zone.look_at_all() if divided else seen
        incomplete |= zone.incomplete(signatures(_as_divided(seen, now, divided)), signatures(now))
        for dataset, day in sorted(incomplete):
            self._say(f"{dataset} {day}: files are still being written; left for the next run")
        left = {day for _, day in incomplete}
        stamps = self._lakehouse.stamps
        phases = stamps.phases(now)
        changed = next(phases)
        refused = {day: why for day, why in stamps.refused(changed, now).items() if day not in left}
        left.update(refused)
        done = self._execute(work for stale in chain([changed], phases) for work in stamps.work(stale, left, stale))
        if refused:
            raise DaysLeftOut(refused, done)
        return done

    def run_range(self, first: date, last: date) -> list[Work]:
        """Compute every table for the days ``first`` … ``last``, up to date or not.

        Raises:
            RangeError: the lakehouse has not all of these days.
            DroppedDays: cleanup has dropped some of them.
        """
        self._lakehouse.divide_again(self._say)
        self._lakehouse.stamps.check_range(first, last)
        self._lakehouse.stamps.check_not_dropped(self._lakehouse.tables, first)
        return self._execute(iter(self._lakehouse.stamps.range_work(first, last)))

    def _execute(self, work: Iterator[Work]) -> list[Work]:
        """Execute runs one after the other; each is planned when the one before has ended."""
        done: list[Work] = []
        job = build_definitions(self._lakehouse).resolve_job_def(JOB)
        with terminal_instance(self._lakehouse.settings) as instance:
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
            tags=run_tags(work) | {PROCESS_TAG: str(os.getpid())},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )


def _as_divided(seen: Looks, now: Looks, divided: Collection[date]) -> Looks:
    """An earlier look, but for the landing dates whose files we divided again ourselves."""
    others = {day: files for day, files in seen["interactions"].items() if day not in divided}
    ours = {day: files for day, files in now["interactions"].items() if day in divided}
    return {**seen, "interactions": others | ours}


class _Progress:
    """Says each finished table with its time, how many are done, and about how long is left."""

    def __init__(self, say: Say, work: Work) -> None:
        self._say = say
        self._work = work
        self._began = time.monotonic()
        self._started: dict[str, float] = {}
        self._done = 0
        span = f"{work.first}" if work.days == 1 else f"{work.first} … {work.last} ({work.days} days)"
        say(f"{span}: {some(len(work.tables), 'table')}")

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
        ahead = f"   about {left:.0f} s left" if self._done < total else ""
        name = step.replace("__", ".")
        self._say(f"  {self._done}/{total} {name:<32} {now - self._started[step]:5.1f} s{ahead}")
