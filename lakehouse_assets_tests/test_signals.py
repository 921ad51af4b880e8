"""SIGINT and SIGTERM end a command within seconds, with one sentence and status 130, whatever it is doing.

Aimed moments; random ones are in test_campaigns.py.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse_assets.orchestration.failures import failure_of
from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.settings import load_settings
from lakehouse_assets.stopping import SENTENCE
from lakehouse_assets_tests.conftest import CORE, HEADERS, Lake
from lakehouse_assets_tests.stack.services import free_port
from lakehouse_assets_tests.victim import ended, others_of_session, start

TOLD = f"{SENTENCE}\n"
LONG_SECONDS = 15  # seconds are meant; this is for a machine that has much else to do


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stop(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal; what the process then said, when it and all it had started are gone."""
    process.send_signal(number)
    _, told = process.communicate(timeout=LONG_SECONDS)
    assert process.returncode == 130, told
    ended(process)
    return told


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A file of three days, 40 MB."""
    file = tmp_path / "export.csv"
    with file.open("w") as sink:
        sink.write(HEADERS["interactions"] + "\n")
        for day in (1, 2, 3):
            sink.writelines(f"u{n % 977},2024-03-0{day} 10:00:00,page_view,p{n},7,1.0.0\n" for n in range(300_000))
    return file


def test_a_landing_that_is_stopped_leaves_no_file(export: Path, tmp_path: Path) -> None:
    landing = tmp_path / "home" / "landing"
    process = start(["land", "interactions", str(export)], LAKEHOUSE_HOME=str(tmp_path / "home"))
    wait_for(lambda: list(landing.rglob("*.tmp")), process)
    assert stop(process, signal.SIGINT) == TOLD
    assert [path for path in landing.rglob("*") if path.is_file()] == []


_STOPPED_BETWEEN_DAYS = """
import os, signal, sys
from lakehouse_assets import cli
from lakehouse_assets.landing.folder import Folder
publish = Folder.publish
def stopped(*arguments):
    published = publish(*arguments)
    Folder.publish = publish
    os.kill(os.getpid(), signal.SIGTERM)
    return published
Folder.publish = stopped
sys.argv[1:] = ["land", "interactions", sys.argv[1]]
sys.exit(cli.main())
"""


def test_of_a_file_of_several_days_all_are_landed_or_none(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("\n".join([HEADERS["interactions"], *(f"u,2024-03-0{n} 10:00:00,edit,p,1,1" for n in (1, 2, 3))]))
    environment = os.environ | {"LAKEHOUSE_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", _STOPPED_BETWEEN_DAYS, str(file)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (130, TOLD)
    assert len(list((tmp_path / "home" / "landing").rglob("a.csv"))) == 3


_DEAF = """
import subprocess, time
from lakehouse_assets.stopping import STOP
def run():
    subprocess.Popen(["sleep", "100"])
    print("runs", flush=True)
    try:
        time.sleep(100)
    finally:
        time.sleep(100)
STOP.guard(run)
"""


@pytest.mark.parametrize("signals", [1, 2])
def test_who_does_not_stop_is_ended_with_all_it_started(signals: int) -> None:
    """After two seconds, or at a second signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", _DEAF], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.6)
    assert process.communicate(timeout=LONG_SECONDS) == ("", TOLD)
    assert process.returncode == 130
    ended(process)


_DONE = """
import atexit, sys, threading
from lakehouse_assets.stopping import STOP
class Kept:
    def __del__(self):
        print("taken apart")
kept = Kept()
def run():
    atexit.register(print, "cleaned up")
    threading.Timer(0.2, print, ["waited for"]).start()
    print("done")
    return 3
sys.exit(STOP.guard(run))
"""


def test_a_command_that_is_done_ends_without_taking_its_objects_apart() -> None:
    done = subprocess.run([sys.executable, "-c", _DONE], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "done\nwaited for\ncleaned up\n", "")


@pytest.mark.spark
def test_a_parallel_backfill_in_the_background_ends_with_its_parts(tmp_path: Path) -> None:
    """A script starts what runs in the background with SIGINT ignored; that stays so, and SIGTERM ends it."""
    home = tmp_path / "home"
    for day in ("2024-03-01", "2024-04-01"):
        folder = home / "landing" / "interactions" / f"date={day}"
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text(f"{HEADERS['interactions']}\nu,{day} 10:00:00,edit,p,1,1\n")
    command = ["backfill", "--start", "2024-03-01", "--end", "2024-04-01", "--parallel", "2"]
    process = start(command, ignoring_sigint=True, LAKEHOUSE_HOME=str(home), LAKEHOUSE_TABLES=",".join(CORE))
    wait_for(lambda: sum("SparkSubmit" in other for other in others_of_session(process)) == 2, process)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    assert stop(process, signal.SIGTERM) == TOLD


def _one_row(lake: Lake) -> None:
    lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,1,1")


@pytest.mark.parametrize(
    ("number", "moment", "table"),
    [("SIGINT", "staged", "silver.user_days"), ("SIGTERM", "before the commit", "gold.daily_metrics")],
)
def test_a_run_stopped_while_it_writes_a_table_publishes_none_of_it(
    computed_lake: Callable[..., Lake], number: str, moment: str, table: str
) -> None:
    lake = computed_lake(("gold.daily_metrics",), _one_row)
    before = lake.table(table)
    lake.rows("2024-03-01", *(f"{user},2024-03-01 10:00:00,edit,p,1,1" for user in "uv"))
    settings = lake.lakehouse.settings
    process = subprocess.run(
        [sys.executable, "-m", "lakehouse_assets_tests.victim", moment, table, "0", number],
        env=os.environ | {"LAKEHOUSE_HOME": str(settings.home_path), "LAKEHOUSE_TABLES": "gold.daily_metrics"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        start_new_session=True,
    )
    assert (process.returncode, process.stderr) == (130, TOLD)
    assert lake.table(table) == before
    assert table in lake.stale()
    with terminal_instance(settings) as instance:
        stopped = instance.get_runs()[0]  # the newest
        assert stopped.status.value == "FAILURE"
        reason = failure_of(instance, stopped).reason
        assert re.fullmatch(r"it was stopped|its process \d+ ended without recording a reason", reason)
    lake.run()
    assert lake.by_day("gold.daily_metrics")["2024-03-01"]["daily_active_users"] == 2
    assert lake.stale() == {}


def test_dev_started_in_the_background_ends_with_sigterm(tmp_path: Path) -> None:
    port = free_port()
    process = start(["dev", "--port", str(port)], ignoring_sigint=True, LAKEHOUSE_HOME=str(tmp_path / "home"))
    wait_for(lambda: sum("dagster" in other for other in others_of_session(process)) >= 2, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    ended(process, 60)  # a code server that was just being started waits 30 s for a sign of who started it
    assert load_settings(home=tmp_path / "home").dagster_path.exists()


def test_what_a_command_says_may_go_unread(tmp_path: Path) -> None:
    """As behind `| head`: the reader is gone, and the work is done all the same."""
    code = "from lakehouse_assets.cli import say\nfor n in range(20_000): say(str(n))\nopen('done', 'w')"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert (process.stderr.read(), process.wait(30)) == (b"", 0)
    assert (tmp_path / "done").exists()
