"""Two runs over the same days at once: each reads what the other has published so far, and both succeed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.orchestration.runs import WAITS_TAG, living_runs
from lakehouse_assets.runner import DaysLeftOut
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
    run_first_days(lake)
    assert other[0].wait(120) == 0
    assert len(waited) == 1
    assert [told for told in lake.said if "waits for other runs that publish" in told and waited[0] in told]
    assert not [told for told in lake.said if "came between" in told or "failed" in told]
    lake.run()
    assert differences(lake.lakehouse) == []


def _state_of(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
