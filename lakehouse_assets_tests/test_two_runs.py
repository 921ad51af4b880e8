"""Two runs over the same days at once: each reads what the other has published so far, and both succeed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.orchestration.admission import begin
from lakehouse_assets.orchestration.instance import PROCESS_TAG, process_tags, terminal_instance
from lakehouse_assets.orchestration.jobs import run_tags
from lakehouse_assets.orchestration.runs import JOB, WAITS_TAG, living_runs, runs_to_wait_for, wait_for_other_runs
from lakehouse_assets.planning.planner import Planner, Work
from lakehouse_assets.runner import DaysLeftOut
from lakehouse_assets.storage.catalog_errors import CatalogLocked
from lakehouse_assets.storage.repair import Repair
from lakehouse_assets.storage.s3 import StorageError
from lakehouse_assets.storage.warehouse import Warehouse
from lakehouse_assets_tests.conftest import CORE, Lake, computed_by
from lakehouse_assets_tests.histories import differences

pytestmark = pytest.mark.sail

FIRST, SECOND, THIRD = (f"2024-03-0{day}" for day in (1, 2, 3))
OTHER_RUN = [sys.executable, "-m", "lakehouse_assets_tests.victim", "after the commit"]


@pytest.fixture
def lake(make_lake: Callable[..., Lake], monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Three days that are not computed; the third one's file has rows of the first."""
    made = make_lake()
    made.rows(FIRST, *[f"{user},{FIRST} 10:00:00,edit,p,5,1" for user in "ab"])
    made.rows(SECOND, f"a,{SECOND} 10:00:00,edit,p,5,1")
    made.rows(THIRD, f"b,{THIRD} 10:00:00,edit,p,5,1", f"late,{FIRST} 11:00:00,edit,p,5,1")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(made.lakehouse.settings.home_path))
    monkeypatch.setenv("LAKEHOUSE_TABLES", ",".join(CORE))
    return made


@pytest.fixture
def other() -> Iterator[list[subprocess.Popen[bytes]]]:
    """The other run, which may have stopped itself; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def once_published(patch: pytest.MonkeyPatch, table: str, then: Callable[[], object]) -> None:
    """Do something when this process has published a table for the first time."""
    publish, pending = Warehouse.publish, [then]

    def published(self: Warehouse, begun: Any, properties: Any) -> Any:
        done = publish(self, begun, properties)
        if begun.declared.name == table and pending:
            pending.pop()()
        return done

    patch.setattr(Warehouse, "publish", published)


def run_first_days(lake: Lake) -> None:
    lake.runner.run_range(date.fromisoformat(FIRST), date.fromisoformat(SECOND))


def test_what_another_run_makes_stale_is_computed_again_with_the_table_that_failed_by_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = [sys.executable, "-m", "lakehouse_assets.cli", "run", "--start", THIRD, "--end", THIRD]
    # it sends rows to the first day, which this run has computed without them and the other one does not compute
    once_published(monkeypatch, "silver.interactions", lambda: subprocess.run(other, check=True, timeout=120))
    run_first_days(lake)
    (again,) = [told for told in lake.said if "came between" in told]
    assert "silver.interactions" in again
    assert "silver.interaction_counts" in again
    assert [row["accepted_rows"] for row in lake.table("silver.interaction_counts")] == [3, 1, 1]
    lake.run()
    assert differences(lake.lakehouse) == []


def test_a_table_that_fails_by_itself_is_not_tried_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.rows(FIRST, "a,2024-01-01,DE,web,free", dataset="users")
    computed_by(monkeypatch, lake.lakehouse, "silver.user_days", lambda rows: rows.unionAll(rows))
    for compute in (lake.run, lambda: run_first_days(lake)):
        lake.said.clear()
        with pytest.raises(DaysLeftOut, match=r"silver\.user_days"):
            compute()
        assert len([told for told in lake.said if "silver.user_days failed" in told]) == 1


@pytest.mark.parametrize("trouble", [StorageError("the store does not answer"), CatalogLocked("it is locked")])
def test_trouble_while_other_runs_are_looked_for_is_that_of_any_step(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    lake.rows(FIRST, "a,2024-01-01,DE,web,free", dataset="users")
    computed_by(monkeypatch, lake.lakehouse, "silver.user_days", lambda rows: rows.unionAll(rows))
    stale_for, pending = Planner.stale_for, [trouble]

    def failing_once(self: Planner, *arguments: Any) -> Any:
        if pending:
            raise pending.pop()
        return stale_for(self, *arguments)

    monkeypatch.setattr(Planner, "stale_for", failing_once)
    if isinstance(trouble, StorageError):  # it concerns every table
        with pytest.raises(StorageError, match="does not answer"):
            lake.run()
    else:
        with pytest.raises(DaysLeftOut, match=r"silver\.user_days .* was not published.* check no_duplicate_key"):
            lake.run()
    assert not pending


def test_the_first_failure_is_told_when_storage_ends_the_second_attempt(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Warehouse.publish

    def published(self: Warehouse, begun: Any, properties: Any) -> Any:
        if any("came between" in told for told in lake.said):
            raise StorageError("the store does not answer")
        return publish(self, begun, properties)

    monkeypatch.setattr(Warehouse, "publish", published)
    other = [sys.executable, "-m", "lakehouse_assets.cli", "run", "--start", THIRD, "--end", THIRD]
    once_published(monkeypatch, "silver.interactions", lambda: subprocess.run(other, check=True, timeout=120))
    with pytest.raises(DaysLeftOut) as left:
        run_first_days(lake)
    assert [one.table for one in left.value.failed] == ["silver.interaction_counts"]
    assert left.value.ended == "the store does not answer"


def test_a_file_that_comes_while_a_table_fails_is_left_to_the_next_run(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not be whole yet."""
    computed_by(monkeypatch, lake.lakehouse, "silver.user_days", lambda rows: rows.unionAll(rows))
    late = f"c,{FIRST} 12:00:00,edit,p,5,1"
    once_published(monkeypatch, "silver.interactions", lambda: lake.rows(FIRST, late, name="b.csv"))
    with pytest.raises(DaysLeftOut, match=r"silver\.user_days"):
        lake.run()
    assert not [told for told in lake.said if "came between" in told]
    assert {row["source_file"].rpartition("/")[2] for row in lake.table("bronze.interactions")} == {"a.csv"}


# this run publishes the first table, the other one all up to the second and pauses; then the rows of this one's next
# table, or of its blocking check, do not add up
@pytest.mark.parametrize(
    ("mine", "others"),
    [("silver.interactions", "silver.interaction_routing"), ("gold.session_metrics", "silver.interactions")],
)
def test_a_run_waits_for_another_that_is_publishing_its_inputs(
    lake: Lake, other: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, mine: str, others: str
) -> None:
    waited: list[str] = []

    def start_other() -> None:
        command = [*OTHER_RUN, others, "0", "SIGSTOP", "--start", FIRST, "--end", THIRD]
        other.append(subprocess.Popen(command, start_new_session=True))
        while _state_of(other[0]) != "T":
            assert other[0].poll() is None
            time.sleep(0.05)
        threading.Thread(target=resume_when_waited_for, daemon=True).start()

    def resume_when_waited_for() -> None:
        with terminal_instance(lake.lakehouse.settings) as instance:
            deadline = time.monotonic() + 60
            while not waited and time.monotonic() < deadline:
                waited.extend(tag for run in living_runs(instance) if (tag := run.tags.get(WAITS_TAG)))
                time.sleep(0.1)
        os.killpg(other[0].pid, signal.SIGCONT)

    once_published(monkeypatch, mine, start_other)
    monkeypatch.setattr(Repair, "name_damage", None)  # waiting is no damage, and reads no file to look for some
    run_first_days(lake)
    assert other[0].wait(120) == 0
    assert len(waited) == 1
    assert [told for told in lake.said if "waits for other runs that publish" in told and waited[0] in told]
    assert not [told for told in lake.said if "came between" in told or "failed" in told]
    lake.run()
    assert differences(lake.lakehouse) == []


def test_of_runs_that_would_wait_for_each_other_one_does_not(lake: Lake) -> None:
    stale = {"silver.interactions": {date.fromisoformat(SECOND): ""}}
    computing = {"asset_selection": _keys("bronze.interactions", "silver.interactions")}
    log = dg.build_op_context().log
    with terminal_instance(lake.lakehouse.settings) as instance:

        def add(run_id: str, of: Mapping[str, Any], first: str, last: str, status: str = "STARTED") -> None:
            tags = run_tags(Work((), date.fromisoformat(first), date.fromisoformat(last))) | process_tags()
            instance.add_run(
                dg.DagsterRun(job_name=JOB, run_id=run_id, status=dg.DagsterRunStatus(status), tags=tags, **of)
            )

        def waits(run_id: str) -> set[str]:
            return {run.run_id for run in runs_to_wait_for(instance, run_id, stale)}

        def tag(run_id: str, *waits_for: str) -> None:
            instance.add_run_tags(run_id, {WAITS_TAG: ",".join(waits_for)})

        add("a", computing, FIRST, SECOND)
        add("an earlier day", computing, FIRST, FIRST)
        add("another table", {"asset_selection": _keys("silver.user_days")}, FIRST, SECOND)
        judging = frozenset({dg.AssetCheckKey(dg.AssetKey(["silver", "interactions"]), "event_id")})
        add("checks only", {"asset_selection": frozenset(), "asset_check_selection": judging}, FIRST, SECOND)
        add("not begun", computing, FIRST, SECOND, "STARTING")
        assert waits("a") == set()
        add("b", computing, SECOND, THIRD)
        add("c", {}, SECOND, SECOND)
        assert waits("a") == {"b", "c"}
        tag("b", "one that has ended")
        assert waits("a") == {"b", "c"}
        tag("a", "b")
        tag("b", "c")
        assert (waits("a"), waits("b")) == ({"b", "c"}, {"a", "c"})
        tag("c", "a")  # in a circle the first one gives way
        assert (waits("a"), waits("b"), waits("c")) == (set(), {"a", "c"}, {"a", "b"})
        instance.report_run_canceled(_run(instance, "c"))
        begun = time.monotonic()
        wait_for_other_runs(instance, "a", log, lambda: stale, longest_seconds=2)
        assert time.monotonic() - begun >= 2
        assert _run(instance, "a").tags[WAITS_TAG] == ""
        begin(lake.lakehouse, _run(instance, "b"), instance, None)  # as when it is tried again
        assert _run(instance, "b").tags[WAITS_TAG] == ""


def test_a_process_that_may_be_planning_its_next_run_is_waited_for(
    lake: Lake, other: list[subprocess.Popen[bytes]]
) -> None:
    stale = {"silver.interactions": {date.fromisoformat(SECOND): ""}}
    other.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
    with terminal_instance(lake.lakehouse.settings) as instance:
        of_this = process_tags()
        for tags in (of_this, of_this | {PROCESS_TAG: str(other[0].pid)}):
            ended = instance.add_run(dg.DagsterRun(job_name=JOB, status=dg.DagsterRunStatus.SUCCESS, tags=tags))
        assert [run.run_id for run in runs_to_wait_for(instance, "", stale)] == [ended.run_id]
        assert runs_to_wait_for(instance, "", {"silver.interactions": {}}) == []
        begun = instance.add_run(
            dg.DagsterRun(job_name=JOB, status=dg.DagsterRunStatus.STARTED, tags={**ended.tags, WAITS_TAG: ""})
        )
        assert runs_to_wait_for(instance, "", stale) == []  # its next one is for no days of these
        instance.delete_run(begun.run_id)
        other[0].kill()
        other[0].wait()
        assert runs_to_wait_for(instance, "", stale) == []


def _run(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    run = instance.get_run_by_id(run_id)
    assert run
    return run


def _keys(*names: str) -> frozenset[dg.AssetKey]:
    return frozenset(dg.AssetKey(name.split(".")) for name in names)


def _state_of(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
