"""Dagster's instance of a lakehouse: where it keeps its records, how runs are queued, watched and retried."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg

from lakehouse_assets.cache import cache_dir, write_whole
from lakehouse_assets.errors import SetupError
from lakehouse_assets.orchestration.dagster_internals import (
    GRPC_INFO_TAG,
    NO_COMPUTE_LOGS,
    NOT_FINISHED_STATUSES,
    CheckRunHealthResult,
    InstanceRef,
    WorkerStatus,
)
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.locks import one_at_a_time

PROCESS_TAG = "lakehouse/process"
HOST_TAG = "lakehouse/host"  # of the machine or container whose process it is

_INSTANCE = """\
# Made by lakehouse_assets when the file was missing; yours to change.
telemetry:
  enabled: false
nux:  # no dialog that asks for an e-mail address
  enabled: false
{storage}run_launcher:
  module: lakehouse_assets.orchestration.instance
  class: WatchingRunLauncher
concurrency:
  runs:
    max_concurrent_runs: 2  # each is a Spark of its own with up to LAKEHOUSE_DRIVER_MEMORY of heap
run_queue:
  dequeue_interval_seconds: 1  # what is asked for starts at once; the default is 5
  max_user_code_failure_retries: 20  # a code server that is being started again is waited for, 5 minutes
  user_code_failure_retry_delay: 15
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
  cancel_timeout_seconds: 180
  max_runtime_seconds: 43200  # 12 h, for runs of the Materialize button; LAKEHOUSE_RUN_TIMEOUT_HOURS for the others
  poll_interval_seconds: 20
freshness:  # evaluates the tables' freshness policies
  enabled: true
run_retries:  # a process that died is tried again; a step that failed said why, and fails again until that is mended
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
"""

_SQLITE = """\
event_log_storage:  # 0.8 ms an event of a range run, 16 ms with the default storage
  module: lakehouse_assets.orchestration.event_log
  class: BatchingSqliteEventLogStorage
  config:
    base_dir: {base_dir}
"""

_POSTGRES = """\
run_storage:
  module: dagster_postgres
  class: PostgresRunStorage
  config: &database
    postgres_url:
      env: DAGSTER_POSTGRES_URL  # read at each start, so that no password stands here
schedule_storage:
  module: dagster_postgres
  class: PostgresScheduleStorage
  config: *database
event_log_storage:  # 0.3 ms an event of a range run, 20 ms with the default storage
  module: lakehouse_assets.orchestration.postgres_event_log
  class: BatchingPostgresEventLogStorage
  config: *database
"""

_BASE_DIR = re.compile(r'(class: BatchingSqliteEventLogStorage\n  config:\n    base_dir: )(.*/history/runs"?)$', re.M)
_SPECIAL_IN_ADDRESSES = re.compile("[%?]")

# Here the output is in front of the person; capturing it too starts four processes a run.
_IN_A_TERMINAL = {"compute_logs": NO_COMPUTE_LOGS}


class WatchingRunLauncher(dg.DefaultRunLauncher):
    """Dagster's launcher, which also notices that the process of a run is gone, so that no run is stuck as started.

    The default leaves that to the code server that started the process, and nobody tells when both have died. Of a
    process of another machine or container it can't tell; there `stack/code_server.py` does when it starts.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a started run still exists on this machine."""
        if not _is_here(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its process is on another machine")
        process = run.tags.get(PROCESS_TAG) or self._process_of(run.run_id)
        if process is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the run has not said which process it is")
        if _answers(int(process)):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, _died(process))

    def _process_of(self, run_id: str) -> str | None:
        for entry in self._instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            data = entry.get_dagster_event().engine_event_data
            if "pid" in data.metadata:
                return str(data.metadata["pid"].value)
        return None


def process_tags() -> dict[str, str]:
    """Tags of a run that name its process, this one."""
    return {PROCESS_TAG: str(os.getpid()), HOST_TAG: platform.node()}


def is_of_another_process(run: dg.DagsterRun) -> bool:
    """Whether a run is of a command or notebook in another process of this machine that has not ended."""
    process = run.tags.get(PROCESS_TAG)
    return process is not None and _is_here(run) and int(process) != os.getpid() and _answers(int(process))


def _is_here(run: dg.DagsterRun) -> bool:
    """Whether the process of a run is one of this machine: that of a command, or of a code server."""
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("host", "localhost")
    host = run.tags.get(HOST_TAG, server)
    return host in ("localhost", "127.0.0.1", platform.node())


def _died(process: str) -> str:
    return f"its process {process} ended without recording a reason"


def _answers(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def dagster_home(settings: Settings) -> Path:
    """Dagster's instance folder of a lakehouse, made ready; of one that was moved or copied, its own.

    Raises:
        SetupError: Dagster can't use a folder of that name, and no other name for it can be made.
    """
    settings.dagster_path.mkdir(parents=True, exist_ok=True)
    home = _plainly_named(settings.dagster_path)
    config = home / "dagster.yaml"
    # in quotes, as JSON writes them, nothing in a path has a meaning of YAML's
    base_dir = json.dumps(str(home / "history" / "runs"), ensure_ascii=False)
    with one_at_a_time(home):
        if not config.exists():
            shared = settings.dagster_postgres_url.get_secret_value()
            storage = _POSTGRES if shared else _SQLITE.format(base_dir=base_dir)
            write_whole(config, _INSTANCE.format(storage=storage))
        written = config.read_text(encoding="utf-8")
        if (own := _BASE_DIR.sub(lambda found: found[1] + base_dir, written)) != written:
            write_whole(config, own)
    return home


def _plainly_named(folder: Path) -> Path:
    """A folder under a name that Dagster can use: it writes the path of a database as it is into an address."""
    if not _SPECIAL_IN_ADDRESSES.search(str(folder)):
        return folder
    link = cache_dir() / "dagster" / hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    try:
        if _SPECIAL_IN_ADDRESSES.search(str(link)):
            raise NotADirectoryError(f"{link} has a % or a ? too")
        link.parent.mkdir(parents=True, exist_ok=True)
        for other in link.parent.iterdir():
            if not other.exists():  # its lakehouse has moved or is gone
                other.unlink(missing_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(folder)
    except OSError as error:
        raise SetupError(
            f"Dagster can't keep its records in {folder}, whose name has a % or a ?, and no other name for it can be "
            f"made ({error}); let LAKEHOUSE_CACHE name a writable folder without them"
        ) from None
    return link


@contextmanager
def terminal_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance of a lakehouse for a command in a terminal."""
    home = dagster_home(settings)
    with one_at_a_time(home):
        instance = dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=_IN_A_TERMINAL))
    with instance:
        if os.access(home, os.W_OK):
            end_runs(instance, dead_runs(instance))
        yield instance


def end_runs(instance: dg.DagsterInstance, dead: Mapping[str, str]) -> None:
    """Report runs as failed whose process on this machine has died; there may be no daemon that would."""
    for run_id, why in dead.items():
        now = instance.get_run_by_id(run_id)  # it may have come to its end meanwhile
        if now and not now.is_finished:
            instance.report_run_failed(now, why)


def dead_runs(instance: dg.DagsterInstance) -> dict[str, str]:
    """Unfinished runs whose process was one of this machine and has ended, and what is to be said of each."""
    if not instance.run_launcher.supports_check_run_worker_health:
        return {}
    unfinished = instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    health = {run.run_id: instance.run_launcher.check_run_worker_health(run) for run in unfinished}
    return {run_id: str(one.msg) for run_id, one in health.items() if one.status == WorkerStatus.FAILED}
