"""Long campaigns of faults on a real lake (`make test-faults`): seeded by LAKEHOUSE_SEED, bounded in time."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from lakehouse_assets.calendar import days_between
from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.orchestration.runs import unfinished_runs
from lakehouse_assets.orchestration.sensors import landing_sensor
from lakehouse_assets.orchestration.status import STALE, UP_TO_DATE, status
from lakehouse_assets.stopping import SENTENCE, STATUS
from lakehouse_assets_tests.conftest import CORE, small_disk
from lakehouse_assets_tests.histories import DAYS, FIRST, SEED, Deliveries, differences
from lakehouse_assets_tests.victim import ANY_MOMENT, MOMENTS, ended, start

IN_A_ROW = 5  # processes killed before one may finish
SHARE = os.environ.get("LAKEHOUSE_CAMPAIGN_SHARE", "1")  # such as 0.1: a tenth of each campaign


def count(whole: int) -> int:
    return max(1, round(whole * float(SHARE)))


def tell(capsys: pytest.CaptureFixture[str], reached: object, began: float) -> None:
    with capsys.disabled():
        print(f"\nseed {SEED}: {reached} in {time.monotonic() - began:.0f} s", flush=True)


def by_day(lake) -> dict[str, dict[date, list[dict]]]:
    """The rows of each day of each table; a commit of a run publishes neighbouring days of one table."""
    found: dict[str, dict[date, list[dict]]] = {}
    for name, table in lake.lakehouse.tables.items():
        found[name] = {}
        for row in lake.table(name):
            found[name].setdefault(row[table.partition_column], []).append(row)
    return found


def play(histories: int, chance: random.Random, make_lake) -> Counter[str]:
    """Random histories with an engine; each ends up to date and equal to a clean rebuild in plain Python."""
    reached: Counter[str] = Counter()
    for _ in range(histories):
        lake = make_lake()
        deliveries = Deliveries(lake.lakehouse.zone)
        for _ in range(2):
            for _ in range(chance.randint(2, 5)):
                what = chance.choice(["deliver", "deliver", "deliver", "users", "remove", "rename"])
                offset, content = chance.randrange(DAYS), chance.randrange(1 << 20)
                if what == "deliver":
                    deliveries.interactions(offset, chance.choice(["a.csv", "b.csv"]), content)
                elif what == "users":
                    deliveries.users(offset, content)
                elif what == "remove":
                    deliveries.remove(content, whole_date=chance.random() < 0.5)
                else:
                    deliveries.rename(content)
                reached[what] += 1
            lake.run()
            reached["runs"] += 1
        assert differences(lake.lakehouse) == []
        assert lake.run() == []
        reached["histories"] += 1
    return reached


def test_a_random_history_with_an_engine_ends_as_a_clean_rebuild(make_lake) -> None:
    assert play(1, random.Random(SEED), make_lake)["histories"] == 1


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_random_histories_with_an_engine_end_as_clean_rebuilds(make_lake, capsys) -> None:
    began = time.monotonic()
    reached = play(count(60), random.Random(SEED + 1), make_lake)
    tell(capsys, dict(reached), began)


@pytest.mark.faults
@pytest.mark.timeout(14_400)
def test_killed_processes_leave_old_or_new_rows_and_never_a_mix(make_lake, capsys) -> None:
    """Real `lakehouse run` processes, each with its JVM, killed at aimed moments and at random ones.

    After each correction several are killed, so that the later ones die while they mend what the earlier ones left.
    """
    lake, chance, began = make_lake(), random.Random(SEED), time.monotonic()
    lakehouse, deliveries = lake.lakehouse, Deliveries(lake.lakehouse.zone)
    for offset in range(3):
        deliveries.interactions(offset, "a.csv", offset)
    lake.run()
    environment = os.environ | {"LAKEHOUSE_HOME": str(lakehouse.settings.home_path), "LAKEHOUSE_TABLES": ",".join(CORE)}
    reached: Counter[str] = Counter()
    while reached["kills"] < count(200):
        aims: list[tuple[str, str]] = []
        old, left = by_day(lake), []
        deliveries.interactions(chance.randrange(3), "a.csv", chance.randrange(1 << 20))
        while len(aims) < IN_A_ROW and (stale := list(lake.stale())):
            moment, table = chance.choice([*MOMENTS, ANY_MOMENT]), chance.choice(stale)
            seconds = f"{chance.uniform(0, 4)}"  # a write takes one or two
            command = [sys.executable, "-m", "lakehouse_assets_tests.victim", moment, table, seconds]
            victim = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            status = victim.wait(400)
            assert status in (0, -signal.SIGKILL), (reached, moment, table)
            reached["kills" if status else "ended before"] += 1
            reached[moment] += bool(status)
            aims.append((moment, table))
            left.append(by_day(lake))
        lake.run()
        assert_old_or_new(lake, old, left, (reached, aims))
        reached["checks"] += 1
        if reached["checks"] % 5 == 0:
            tell(capsys, dict(reached), began)
    tell(capsys, dict(reached), began)


def assert_old_or_new(lake, old, left, about: object) -> None:
    """Each day of each table had its old rows or its new ones in all that processes left; now it has the new ones."""
    new = by_day(lake)
    for name in lake.lakehouse.tables:
        if not name.startswith(("bronze", "silver.rejected")):  # they say when they were read
            for rows in left:
                for day in old[name].keys() | new[name].keys() | rows[name].keys():
                    assert rows[name].get(day) in (old[name].get(day), new[name].get(day)), (about, name, day)
    assert differences(lake.lakehouse) == [], about


@pytest.mark.faults
@pytest.mark.timeout(14_400)
def test_signals_at_random_moments_end_a_run_with_one_sentence(make_lake, capsys) -> None:
    """SIGINT and SIGTERM in turn, every third to the whole process group, from the command's first moment on."""
    lake, chance, began = make_lake(), random.Random(SEED), time.monotonic()
    lakehouse, deliveries = lake.lakehouse, Deliveries(lake.lakehouse.zone)
    for offset in range(3):
        deliveries.interactions(offset, "a.csv", offset)
    lake.run()
    environment = {"LAKEHOUSE_HOME": str(lakehouse.settings.home_path), "LAKEHOUSE_TABLES": ",".join(CORE)}
    reached: Counter[str] = Counter()
    whole, slowest = 20.0, 0.0  # seconds of a run that nobody stops; of an end
    while reached["signals"] < count(200):
        moments: list[float] = []
        old, left = by_day(lake), []
        deliveries.interactions(chance.randrange(3), "a.csv", chance.randrange(1 << 20))
        while len(moments) < IN_A_ROW and lake.stale():
            number = (signal.SIGINT, signal.SIGTERM)[reached["signals"] % 2]
            moments.append(chance.uniform(0, whole))
            started = time.monotonic()
            process = start(["run"], **environment)  # type: ignore[arg-type]
            try:
                _, told = process.communicate(timeout=moments[-1])
                assert (process.returncode, told) == (0, ""), (reached, moments)
                whole = time.monotonic() - started
                reached["ended before"] += 1
            except subprocess.TimeoutExpired:
                struck = time.monotonic()
                (os.killpg if reached["signals"] % 3 == 2 else os.kill)(process.pid, number)
                _, told = process.communicate(timeout=60)
                slowest = max(slowest, time.monotonic() - struck)
                if process.returncode == 0:  # it was over, and on its way out
                    assert (told, lake.stale()) == ("", {}), (reached, moments)
                else:
                    assert (process.returncode, told) == (STATUS, f"{SENTENCE}\n"), (reached, moments)
                whole = max(whole, moments[-1])
                reached["signals"] += 1
            ended(process)
            left.append(by_day(lake))
            with terminal_instance(lakehouse.settings) as instance:
                assert unfinished_runs(instance) == [], (reached, moments)
        lake.run()
        assert_old_or_new(lake, old, left, (reached, moments))
        if reached["signals"] % 5 == 0:
            tell(capsys, dict(reached) | {"slowest end, seconds": round(slowest, 1)}, began)
    tell(capsys, dict(reached) | {"slowest end, seconds": round(slowest, 1)}, began)
    assert slowest < 10


_READER = """
import sys, time
from lakehouse_assets.lakehouse import Lakehouse
catalog = Lakehouse().catalog
reads, last = 0, 0
print("ready", flush=True)
while last < int(sys.argv[1]):
    rows = catalog.load("silver.users").scan().to_arrow().to_pylist()
    versions = {row["country"] for row in rows}
    assert len(versions) == 1 and len(rows) == 500, (len(rows), versions)
    now = int(versions.pop())
    assert now >= last, (now, last)
    reads, last = reads + 1, now
print(reads)
"""


@pytest.mark.faults
def test_a_reader_during_overwrites_sees_whole_snapshots(make_lake, spark, capsys) -> None:
    lake, began = make_lake(), time.monotonic()
    warehouse, day, overwrites = lake.lakehouse.warehouse, date(2024, 3, 1), count(100)
    schema = lake.lakehouse.tables["silver.users"].spark_schema

    def overwrite(version: int) -> None:
        rows = [(day, f"u{i}", None, str(version), None, None, None, True) for i in range(500)]
        base = warehouse.base("silver.users", {})
        warehouse.publish(warehouse.begin("silver.users", spark.createDataFrame(rows, schema), day, day, base), {})

    overwrite(0)
    environment = os.environ | {
        "LAKEHOUSE_HOME": str(lake.lakehouse.settings.home_path),
        "LAKEHOUSE_TABLES": ",".join(CORE),
    }
    command = [sys.executable, "-c", _READER, str(overwrites)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for version in range(1, overwrites + 1):
            overwrite(version)
        reads = int(reader.communicate(timeout=120)[0])
    tell(capsys, {"overwrites": overwrites, "reads": reads}, began)
    assert reader.returncode == 0
    assert reads >= overwrites // 4


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ranges", [[(0, 4), (2, DAYS - 1)], [(0, 4), (2, DAYS - 1), (1, 3)]], ids=len)
def test_overlapping_backfills_at_once_equal_a_serial_one(make_lake, capsys, ranges) -> None:
    lake, began = make_lake(), time.monotonic()
    deliveries = Deliveries(lake.lakehouse.zone)
    for offset in range(DAYS):
        deliveries.interactions(offset, "a.csv", offset)
    environment = os.environ | {
        "LAKEHOUSE_HOME": str(lake.lakehouse.settings.home_path),
        "LAKEHOUSE_TABLES": ",".join(CORE),
    }
    command = [sys.executable, "-m", "lakehouse_assets.cli", "backfill"]
    running = [
        subprocess.Popen(
            [*command, "--start", str(FIRST + timedelta(first)), "--end", str(FIRST + timedelta(last))], env=environment
        )
        for first, last in ranges
    ]
    statuses = [process.wait(600) for process in running]
    lake.run()
    assert differences(lake.lakehouse) == []
    tell(capsys, {"backfills": len(ranges)}, began)
    assert set(statuses) == {0}


def lakehouse(lake, *command: str, **environment: str) -> subprocess.Popen[str]:
    """A `lakehouse` command in a process of its own, on this lake."""
    settings = lake.lakehouse.settings
    own = {"LAKEHOUSE_HOME": str(settings.home_path), "LAKEHOUSE_TABLES": ",".join(CORE), **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "lakehouse_assets.cli", *command],
        env=os.environ | own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_sixteen_processes_on_sixteen_days_all_land(make_lake, capsys) -> None:
    lake, began = make_lake(), time.monotonic()
    days = days_between(date(2024, 2, 20), date(2024, 3, 7))
    for day in days:
        lake.rows(str(day), *[f"{user},{day} 10:00:00,edit,p,1,1" for user in ("every", f"u{day.day}")])
        if day == days[0]:
            lake.run()  # makes the tables
    processes = [
        lakehouse(lake, "run", "--start", str(day), "--end", str(day), LAKEHOUSE_DRIVER_MEMORY="512m")
        for day in days[1:]
    ]
    assert len(processes) == 16
    told = [process.communicate(timeout=1800)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 16, told
    assert set(lake.lakehouse.catalog.stamps("bronze.interactions")) == set(days)
    assert len(lake.table("silver.interactions")) == 2 * len(days)
    tell(capsys, {"processes": 16}, began)
    lake.run()  # what one computed from days that another had not published yet
    assert differences(lake.lakehouse) == []


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_parallel_backfill_equals_a_clean_rebuild(make_lake, capsys) -> None:
    lake, began = make_lake(), time.monotonic()
    first, last = date(2024, 1, 20), date(2024, 3, 5)
    for day in days_between(first, last)[::3]:  # days without a file between them
        late = day - timedelta(days=2)
        lake.rows(str(day), f"u,{day} 10:00:00,edit,p,1,1", f"v{day.day},{late} 11:00:00,edit,p,1,1")
    process = lakehouse(lake, "backfill", "--start", str(first), "--end", str(last), "--parallel", "3")
    told = process.communicate(timeout=1500)[1]
    assert process.returncode == 0, told
    assert lake.run() == []
    assert differences(lake.lakehouse) == []
    tell(capsys, {"ranges": 3}, began)


def one_user(lake, rows: int) -> None:
    """A day on which one user does everything."""
    lake.rows("2024-03-01")
    folder = lake.lakehouse.zone.folder("interactions", date(2024, 3, 1))
    microseconds = 86_400_000_000 // rows
    moment = f"TIMESTAMP '2024-03-01' + to_microseconds(i * {microseconds})"
    duckdb.sql(
        f"COPY (SELECT 'one' user_id, strftime({moment}, '%Y-%m-%d %H:%M:%S.%f') \"timestamp\", 'edit' action_type, "
        f"'p' || i % 100 page_id, i % 1000 duration_ms, '1' app_version FROM range({rows}) t(i)) "
        f"TO '{folder}/a.csv' (HEADER)"
    )


def resident_megabytes(group: int) -> float:
    """What the processes of a session hold in memory now."""
    held = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == group:
                held += int((folder / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return held * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_one_user_with_ten_million_events_in_a_day_takes_bounded_memory(make_lake, capsys) -> None:
    lake, began, rows = make_lake(), time.monotonic(), count(10_000_000)
    one_user(lake, rows)
    process, most = lakehouse(lake, "run", LAKEHOUSE_DRIVER_MEMORY="1g"), 0.0
    while process.poll() is None:
        most = max(most, resident_megabytes(process.pid))
        time.sleep(1)
    assert process.returncode == 0, process.communicate()[1]
    tell(capsys, {"events": rows, "MB held at most, heap 1 GB": round(most)}, began)
    assert most < 4000
    [day] = lake.table("gold.daily_metrics")
    assert (day["daily_active_users"], day["total_actions"]) == (1, rows)
    [session] = lake.table("gold.session_metrics")
    assert session["actions_per_session"] == rows


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_ten_years_of_days_are_computed_in_one_run_and_planned_in_seconds(make_lake, capsys) -> None:
    lake, began = make_lake(), time.monotonic()
    for day in days_between(date(2026, 1, 1) - timedelta(days=count(3650)), date(2025, 12, 31)):
        lake.rows(str(day), f"u,{day} 10:00:00,edit,p,1,1", f"v{day.day},{day} 11:00:00,edit,p,1,1")
    lake.run()
    took = {"first run": time.monotonic() - began}
    lake.rows("2024-06-01", "u,2024-06-01 10:00:00,edit,p,1,1")
    with terminal_instance(lake.lakehouse.settings) as instance:
        sensor = landing_sensor(lake.lakehouse)
        cursor = None
        for what in ("first look", "second look"):
            start = time.monotonic()
            tick = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=cursor))
            cursor, took[what] = tick.cursor, time.monotonic() - start
        start = time.monotonic()
        assert {one.state for one in status(lake.lakehouse, lambda: nullcontext(instance))} == {UP_TO_DATE, STALE}
        took["status"] = time.monotonic() - start
    [request] = tick.run_requests or ()
    assert request.tags["dagster/asset_partition_range_start"] == "2024-06-01"
    tell(capsys, {what: round(seconds, 1) for what, seconds in took.items()}, began)
    assert took["second look"] < 10
    assert took["status"] < 20


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_full_disk_for_spill_is_named_and_a_run_with_room_succeeds(make_lake, tmp_path) -> None:
    lake, rows = make_lake(), 500_000
    one_user(lake, rows)
    with small_disk(tmp_path / "spill", 2) as spill:
        process = lakehouse(lake, "run", SPARK_LOCAL_DIRS=str(spill), LAKEHOUSE_DRIVER_MEMORY="100m")
        told = process.communicate(timeout=600)[1]
    assert process.returncode == 1
    last = told.splitlines()[-1]
    assert last.startswith("lakehouse: no space is left; nothing half-written was published: ")
    assert f"{spill} has " in last
    assert lake.table("gold.daily_metrics") == []
    lake.run()
    assert lake.by_day("gold.daily_metrics")["2024-03-01"]["total_actions"] == rows
