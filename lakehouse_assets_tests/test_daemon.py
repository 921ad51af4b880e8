"""The real daemon of `lakehouse dev`: files that land are computed, whatever is killed meanwhile (FAULTS 45, 46)."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.dagster_internals import NOT_FINISHED_STATUSES, RUN_KEY_TAG
from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.orchestration.runs import JOB
from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.dev_server import dev, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
DAY = datetime.now(tz=UTC).date() - timedelta(days=20)


def processes_of(group: int, word: str) -> list[int]:
    """Processes of a session whose command line has a word."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if os.getsid(int(folder.name)) == group and word in command:
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def drop(home: Path, number: int) -> None:
    day = DAY + timedelta(number)
    folder = home / "landing" / "interactions" / f"date={day}"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text(f"{','.join(DATASETS['interactions'])}\nu,{day} 10:00:00,edit,p,1,1\n")


def test_every_file_is_computed_once_though_daemon_code_server_and_run_are_killed(tmp_path):
    home = tmp_path / "home"
    lakehouse = Lakehouse(load_settings(home=home))

    def runs(*statuses):
        with terminal_instance(lakehouse.settings) as instance:
            return instance.get_runs(dg.RunsFilter(statuses=list(statuses)) if statuses else None)

    def quiet():
        stale = lakehouse.planner.stale(lakehouse.zone.listings())
        return not any(stale.values()) and not runs(*NOT_FINISHED_STATUSES)

    with dev(home) as (process, _):
        wait_for(lambda: processes_of(process.pid, "dagster._daemon"), "the daemon")
        drop(home, 0)
        wait_for(runs, "a run")
        for daemon in processes_of(process.pid, "dagster._daemon"):
            os.kill(daemon, signal.SIGKILL)
        time.sleep(1)
    with dev(home) as (process, _):
        wait_for(quiet, "the first day")
        asked_for = [run for run in runs() if run.job_name == JOB and "dagster/retry_number" not in run.tags]
        keys = [run.tags[RUN_KEY_TAG] for run in asked_for]
        assert len(keys) == len(set(keys)) == 2  # what follows from the files, and what follows from that

        drop(home, 1)
        wait_for(lambda: runs(dg.DagsterRunStatus.STARTED), "a started run")
        servers = processes_of(process.pid, "dagster.api") or processes_of(process.pid, "dagster api")
        assert servers
        for server in servers:  # code servers, and the run with them: it is their child
            os.kill(server, signal.SIGKILL)
        for worker in processes_of(process.pid, "multiprocessing.spawn"):
            os.kill(worker, signal.SIGKILL)
        time.sleep(1)
    with dev(home):
        wait_for(quiet, "the second day")
    failed = runs(dg.DagsterRunStatus.FAILURE)
    assert failed
    assert not runs(*NOT_FINISHED_STATUSES)
    days = {str(day) for day in lakehouse.catalog.stamps("gold.daily_metrics")}
    assert days == {str(DAY), str(DAY + timedelta(1))}
