"""Faults injected for real into a lake: readers see the old data or the new, and a rerun heals. See docs/faults.md."""

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import string
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._utils.error import serializable_error_info_from_exc_info
from pyspark.sql import functions as F

from lakehouse_assets import cli
from lakehouse_assets.errors import sentence_of
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration import assets
from lakehouse_assets.orchestration.failures import _innermost
from lakehouse_assets.orchestration.status import FAILED
from lakehouse_assets.runner import DaysLeftOut
from lakehouse_assets.sample_data.generate import generate
from lakehouse_assets.settings import load_settings
from lakehouse_assets.storage import repair
from lakehouse_assets.storage.catalog import Catalog, head_of, sqlite_file
from lakehouse_assets.storage.catalog_errors import CatalogError
from lakehouse_assets.storage.repair import DamagedTable
from lakehouse_assets.storage.trouble import StorageTrouble
from lakehouse_assets.storage.warehouse import Warehouse
from lakehouse_assets_tests.conftest import CORE, HEADERS, computed_by, small_disk

D1, D2, D3 = (date(2024, 3, day) for day in (1, 2, 3))


def rows_of(day, users="ab", duration=1):
    return [f"{user},{day} {hour:02}:00:00,edit,p,{duration},1" for user in users for hour in (8, 9)]


def change(lake, day=D2):
    """Deliver a day again with one user more than it had; how many it has then."""
    users = lake.by_day("gold.daily_metrics")[str(day)]["daily_active_users"] + 1
    lake.rows(str(day), *rows_of(day, string.ascii_lowercase[:users]))
    return users


def active_users(lake, day=D2):
    return lake.by_day("gold.daily_metrics")[str(day)]["daily_active_users"]


def published(lake):
    """Every table as readers see it, without Spark; `ingested_at` says when a run was and nothing else."""
    found = {}
    for name in lake.lakehouse.tables:
        rows = [{k: v for k, v in row.items() if k != "ingested_at"} for row in lake.table(name)]
        found[name] = (len(rows), hashlib.sha256(repr(rows).encode()).hexdigest())
    return found


def refs(lake):
    return {ref for name in lake.lakehouse.catalog.names() for ref in lake.lakehouse.catalog.load(name).refs()}


def spans_wrong_on(day):
    """The sessions as they are, but for spans that break the contract on one day."""
    span = F.when(F.col("session_date") == day, F.lit(-7).cast("bigint")).otherwise(F.col("session_span_ms"))
    return lambda sessions: sessions.withColumn("session_span_ms", span)


@pytest.fixture(scope="module")
def lake(make_lake):
    """Three days, up to date; each test changes the second, breaks something, and leaves the lake healed."""
    made = make_lake()
    for day in (D1, D2, D3):
        made.rows(str(day), *rows_of(day))
    made.run()
    return made


def test_a_range_that_fails_on_one_day_publishes_none_of_its_days(lake, monkeypatch):
    before = published(lake)
    users = change(lake)
    with monkeypatch.context() as patch:
        computed_by(patch, lake.lakehouse, "gold.session_metrics", spans_wrong_on(D2))
        with pytest.raises(DaysLeftOut) as failed:
            lake.runner.run_range(D1, D3)
    told = str(failed.value)
    assert told.startswith("gold.session_metrics 2024-03-01 … 2024-03-03 was not published")
    assert f"failed for {2 * users} rows, on 2024-03-02; for example " in told
    assert "'session_span_ms': -7" in told
    assert told.splitlines()[1:] == [
        "not computed because of gold.session_metrics: gold.daily_session_metrics",
        "everything else is up to date",
    ]
    assert sentence_of(failed.value) == told
    after = published(lake)
    for name in ("gold.session_metrics", "gold.daily_session_metrics"):
        assert after[name] == before[name]
        assert D2 in lake.stale()[name]
    assert active_users(lake) == users  # which does not follow from the sessions
    assert lake.stale().keys() == {"gold.session_metrics", "gold.daily_session_metrics"}
    assert refs(lake) == {"main"}
    lake.run()
    assert active_users(lake) == users
    assert len(lake.table("gold.session_metrics")) == 2 * (2 + users + 2)
    assert lake.stale() == {}


def test_a_run_cancelled_during_a_write_publishes_nothing_of_it(lake, monkeypatch):
    before = published(lake)
    users = change(lake)
    honest = Warehouse._audit_of_stage

    def interrupted(self, declared, *arguments):
        if declared.name == "silver.user_days":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)  # the main thread is told, and stops this one
        return honest(self, declared, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "_audit_of_stage", interrupted)
        with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
            lake.run()
    after = published(lake)
    for name in ("silver.user_days", "gold.daily_metrics", "gold.monthly_metrics"):
        assert after[name] == before[name]
    assert set(lake.stale()["silver.user_days"]) == {D2}
    assert refs(lake) == {"main"}
    lake.run()
    assert active_users(lake) == users
    assert lake.stale() == {}


def test_a_branch_made_while_another_commits_is_made_again(lake, monkeypatch):
    catalog, others = lake.lakehouse.catalog, Catalog(lake.lakehouse.settings).iceberg
    table, staged = "gold.daily_metrics", catalog.iceberg._update_and_stage_table
    lost: list[str] = []

    def beaten_twice(*arguments):
        if len(lost) < 2:  # another process commits between this one's look at the table and its commit
            lost.append(others.load_table(table).metadata_location)
            with others.load_table(table).transaction() as transaction:
                transaction.set_properties(beaten=str(len(lost)))
        return staged(*arguments)

    def toggle(now):
        manage, head = now.manage_snapshots(), now.current_snapshot().snapshot_id
        return (manage.remove_branch("mine") if "mine" in now.refs() else manage.create_branch(head, "mine")).commit()

    monkeypatch.setattr(catalog.iceberg, "_update_and_stage_table", beaten_twice)
    catalog.alter(table, toggle)
    assert (len(lost), refs(lake)) == (2, {"main", "mine"})
    catalog.alter(table, toggle)
    assert refs(lake) == {"main"}


def test_of_two_writers_of_one_day_the_later_computes_again(lake, monkeypatch):
    users = change(lake)
    honest = Warehouse.publish
    writes = []

    def beaten_once(self, begun, properties):
        name = begun.declared.name
        if name == "silver.user_days":
            writes.append(name)
            if len(writes) == 1:  # another run publishes an empty day between this one's reading and publishing
                empty = self.begin(name, begun.frame.limit(0), begun.first, begun.last, self.base(name, {}))
                honest(self, empty, {})
        return honest(self, begun, properties)

    monkeypatch.setattr(Warehouse, "publish", beaten_once)
    lake.run()
    assert len(writes) == 2
    assert active_users(lake) == users
    assert lake.stale() == {}
    assert refs(lake) == {"main"}
    with dg.DagsterInstance.from_config(str(lake.lakehouse.settings.dagster_path)) as instance:
        kinds = [
            log.dagster_event_type
            for run in instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
            for log in instance.all_logs(run.run_id)
        ]
    assert kinds.count(dg.DagsterEventType.STEP_UP_FOR_RETRY) == 1


@contextmanager
def locked(lake) -> Iterator[sqlite3.Connection]:
    """The catalog locked against readers and writers."""
    holder = sqlite3.connect(sqlite_file(lake.lakehouse.settings), isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield holder
    finally:
        if holder.in_transaction:
            holder.execute("ROLLBACK")
        holder.close()


def test_a_locked_catalog_is_waited_for_or_named(lake):
    before = published(lake)
    users = change(lake)
    impatient = Lakehouse(lake.lakehouse.settings.model_copy(update={"lock_timeout_seconds": 1}))
    with locked(lake), pytest.raises(CatalogError) as failed:
        impatient.planner.stale(impatient.zone.listings())
    assert "catalog.db is locked by another process for more than 1 s" in str(failed.value)
    assert published(lake) == before
    with locked(lake) as holder:
        release = threading.Timer(2, lambda: holder.execute("ROLLBACK"))
        release.start()
        lake.run()
        release.join(10)
    assert active_users(lake) == users


def files_of(lake, name, kind):
    """A table's files as readers need them now: its rows, newest manifest, its list, or the newest metadata file."""
    table = lake.lakehouse.catalog.load(name)
    snapshot = table.current_snapshot()
    found = {
        "rows": [task.file.file_path for task in table.scan().plan_files()],
        "manifest": [manifest.manifest_path for manifest in snapshot.manifests(table.io)],
        "manifest list": [snapshot.manifest_list],
        "metadata": [table.metadata_location],
    }
    return [Path(path.removeprefix("file://")) for path in found[kind]]


def remove(path):
    path.unlink()


def cut(path):
    """The end of it: of an Avro file less than its last marker, so that all entries before it can still be read."""
    path.write_bytes(path.read_bytes()[:-10])


def flip(path):
    """The last byte of the first column's values, and nothing else."""
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    content = bytearray(path.read_bytes())
    content[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 1] ^= 0xFF
    path.write_bytes(content)


def without_history(lake, name):
    """Only the newest version of a table, as after maintenance."""
    metadata = files_of(lake, name, "metadata")[0]
    for path in metadata.parent.glob("*.metadata.json"):
        if path != metadata:
            path.unlink()


DAMAGE = [
    ("silver.user_days", "rows", remove, "is missing"),
    ("silver.interactions", "rows", cut, "bytes and should have"),
    ("gold.session_metrics", "rows", flip, "is damaged"),
    ("gold.daily_metrics", "manifest", remove, "is missing"),
    ("gold.monthly_metrics", "manifest list", cut, "is damaged"),
    ("silver.interaction_counts", "metadata", cut, "is damaged"),
    ("silver.interaction_routing", "metadata", remove, "is missing"),
    ("bronze.interactions", "manifest", cut, "is damaged"),
]


def test_damaged_files_are_named_and_their_days_computed_again(lake, capsys, monkeypatch):
    change(lake)
    lake.run()
    before = published(lake)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(lake.lakehouse.settings.home_path))
    monkeypatch.setenv("LAKEHOUSE_TABLES", ",".join(CORE))
    assert cli.main(["maintain", "--repair"]) == 0
    assert "every file of every table can be read" in capsys.readouterr().out
    without_history(lake, "gold.daily_metrics")
    broken = {name: files_of(lake, name, kind)[0] for name, kind, _, _ in DAMAGE}
    never_committed = broken["silver.interaction_counts"]
    shutil.copy(never_committed, never_committed.with_name(f"99999-{never_committed.name.partition('-')[2]}"))
    for name, _, break_it, _ in DAMAGE:
        break_it(broken[name])
    for command in (["run"], ["tables"], ["status"], ["sql", "select count(*) from silver.user_days"]):
        assert cli.main(command) == 1
        told = capsys.readouterr().err
        assert any(str(path) in told for path in broken.values()), told
        assert "`lakehouse maintain --repair` takes out what can't be read" in told
        assert "Traceback" not in told

    assert cli.main(["maintain", "--repair"]) == 1  # more than single files of rows are concerned
    told = capsys.readouterr()
    assert "nothing is changed yet: gold.daily_metrics would become empty; bronze.interactions, " in told.err
    assert "silver.user_days would be without these files; days to compute again: 2024-03-0" in told.out
    assert cli.main(["maintain", "--repair", "--yes"]) == 0
    told = capsys.readouterr().out
    for name, _, _, why in DAMAGE:
        line = next(line for line in told.splitlines() if line.startswith(f"{name}: "))
        assert why in line
        assert broken[name].name in line
    assert "silver.user_days is without these files now; days to compute again: 2024-03-0" in told
    assert "gold.daily_metrics is empty now" in told
    assert "silver.interaction_counts is an earlier version of itself now" in told
    assert cli.main(["maintain", "--repair"]) == 0
    assert "every file of every table can be read" in capsys.readouterr().out
    lake.run()
    assert published(lake) == before
    assert lake.stale() == {}


def test_a_table_made_anew_does_not_go_back_to_the_one_before_it(lake):
    name = "gold.monthly_metrics"
    for made in range(12):  # versions with higher numbers than the new table will have
        with lake.lakehouse.catalog.load(name).transaction() as transaction:
            transaction.set_properties(made=f"{made}")
    before, former = published(lake), lake.lakehouse.catalog.load(name)
    lake.lakehouse.catalog.iceberg.drop_table(name)
    lake.run()
    assert published(lake) == before
    own = lake.lakehouse.catalog.load(name)
    assert Path(own.metadata_location).name < Path(former.metadata_location).name
    cut(files_of(lake, name, "manifest list")[0])
    mends = lake.lakehouse.repair
    for mending in mends.plan(list(mends.find([name]))):
        mends.mend(mending)
    assert lake.lakehouse.catalog.load(name).metadata.table_uuid == own.metadata.table_uuid
    lake.run()
    assert published(lake) == before


def test_a_cut_file_of_metadata_is_noticed_though_its_end_is_in_memory_yet(lake, tmp_path):
    """What was read of the whole file just before may still lie behind what is read of the cut one."""
    table = lake.lakehouse.catalog.load("gold.monthly_metrics")
    snapshot = table.current_snapshot()
    whole, part = files_of(lake, "gold.monthly_metrics", "manifest list")[0], tmp_path / "cut.avro"
    shutil.copy(whole, part)
    cut(part)
    of_part = snapshot.model_copy(update={"manifest_list": str(part)})
    for _ in range(50):
        assert repair._unreadable("gold.monthly_metrics", table, snapshot) is None
        found = repair._unreadable("gold.monthly_metrics", table, of_part)
        assert found
        assert found.why.startswith("is damaged")


def test_a_read_only_home_is_named(tmp_path, capsys, monkeypatch):
    with small_disk(tmp_path / "home", 4) as home:
        file = tmp_path / "events.csv"
        file.write_text(f"{HEADERS['interactions']}\n{rows_of(D1)[0]}\n")
        monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
        assert cli.main(["land", "interactions", str(file)]) == 0
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        for command in (["run"], ["land", "interactions", str(file)], ["maintain", "--repair"], ["status"]):
            capsys.readouterr()
            assert cli.main(command) == 1, command
            told = capsys.readouterr().err
            assert told.startswith("lakehouse: ")
            assert f"{home}" in told
            assert "writ" in told
            assert told.count("\n") == 1


def test_a_step_of_dagsters_names_the_file_it_cannot_read(lake):
    damaged = files_of(lake, "silver.user_days", "rows")[0]
    content = damaged.read_bytes()
    damaged.unlink()
    try:
        with pytest.raises(DamagedTable) as failed, lake.lakehouse.repair.naming_damage(["silver.user_days"]):
            lake.lakehouse.warehouse.read("silver.user_days", D1, D3).collect()
        assert f"{damaged} (2024-03-0" in str(failed.value)
        away = lake.lakehouse.settings.home_path / "warehouse"
        away.rename(away.with_name("away"))
        with pytest.raises(CatalogError, match="is not there, and the tables with it"):
            next(lake.lakehouse.repair.find())
        away.with_name("away").rename(away)
    finally:
        damaged.write_bytes(content)


@pytest.mark.spark
def test_what_spark_says_of_a_failure_is_one_sentence(spark, tmp_path):
    def fails(batches):
        yield from (batch.column("absent. Indeed") for batch in batches)

    (tmp_path / "a.parquet").write_text("no Parquet at all, but long enough")
    numbers, damaged = spark.range(3), spark.read.schema("id bigint").parquet(str(tmp_path))
    for asked, told in {
        numbers.select(F.raise_error("a row lies outside")).collect: "a row lies outside",
        spark.sql("SELECT * FROM VALUES ('x') t(a)").select(F.col("a").cast("bigint")).collect: (
            'The value \'x\' of the type "STRING" cannot be cast to "BIGINT" because it is malformed.'
        ),
        numbers.mapInArrow(fails, "id bigint").collect: 'Field "absent. Indeed" does not exist in schema',
        damaged.collect: "is not a Parquet file",
        partial(numbers.write.csv, "/proc/nowhere"): "Mkdirs failed to create file:/proc/nowhere",
    }.items():
        with pytest.raises(Exception) as failed:  # noqa: PT011  of whatever class
            asked()
        error = serializable_error_info_from_exc_info((failed.type, failed.value, failed.tb))
        reason = _innermost(error)
        assert told in reason
        assert not re.search(r"org\.apache|\tat |java\.|SQLSTATE|\[[A-Z_]+\]", reason), reason
        assert len(reason) < 250


def test_a_file_replaced_while_it_is_read_is_read_again_by_the_next_run(lake, monkeypatch):
    users = change(lake)
    honest = assets.read_deliveries

    def overtaken(*arguments):
        read = honest(*arguments)
        lake.rows(str(D2), *rows_of(D2, string.ascii_lowercase[: users + 1]))
        return read

    with monkeypatch.context() as patch:
        patch.setattr(assets, "read_deliveries", overtaken)
        lake.run()
    assert D2 in lake.stale()["bronze.interactions"]
    lake.run()
    assert active_users(lake) == users + 1
    assert lake.stale() == {}


# lakes share a catalog, and these are made anew: what uses the module's lake stands above
@pytest.mark.spark  # whose staging is a branch
def test_a_process_killed_between_silver_and_gold_heals_on_the_next_run(make_lake):
    lake = make_lake(("gold.daily_metrics",))
    for day in (D1, D2):
        lake.rows(str(day), *rows_of(day))
    lake.run()
    users = change(lake)
    before = published(lake)
    environment = os.environ | {
        "LAKEHOUSE_HOME": str(lake.lakehouse.settings.home_path),
        "LAKEHOUSE_TABLES": "gold.daily_metrics",
    }
    command = [sys.executable, "-m", "lakehouse_assets_tests.victim", "before the commit", "gold.daily_metrics", "0"]
    killed = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300, start_new_session=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    after = published(lake)
    assert after["silver.user_days"] != before["silver.user_days"]
    assert after["gold.daily_metrics"] == before["gold.daily_metrics"]
    assert D2 in lake.stale()["gold.daily_metrics"]
    lake.run()
    assert active_users(lake) == users
    assert lake.stale() == {}
    healed = published(lake)
    left = lake.lakehouse.catalog.load("gold.daily_metrics").location().removeprefix("file://")
    stored = set(Path(left).rglob("*.parquet"))
    later, maintenance = datetime.now(tz=UTC) + timedelta(days=2), lake.lakehouse.maintenance
    branches, staged = maintenance.remove_abandoned("gold.daily_metrics", later)
    assert branches == 1
    maintenance.expire("gold.daily_metrics", datetime.now(tz=UTC), staged)
    gone = stored - set(Path(left).rglob("*.parquet"))
    assert gone  # what the killed process staged
    assert gone.isdisjoint(files_of(lake, "gold.daily_metrics", "rows"))
    assert published(lake) == healed


def test_tables_that_fail_stop_only_what_follows_from_them(make_lake, capsys, monkeypatch):
    independent = ("gold.daily_metrics", "gold.weekly_metrics", "silver.users")
    failing, following = ("gold.session_metrics", "gold.segment_performance"), ("gold.daily_session_metrics",)
    lake = make_lake(tables=(*independent, *failing, *following))
    monkeypatch.setenv("LAKEHOUSE_HOME", str(lake.lakehouse.settings.home_path))
    monkeypatch.setenv("LAKEHOUSE_TABLES", ",".join(lake.lakehouse.settings.tables))
    for day in (D1, D2):
        lake.rows(str(day), *rows_of(day))
    lake.rows(str(D1), "a,2024-01-01,DE,ios,free", dataset="users")

    def no_numbers(performance):
        return performance.withColumn("duration_correlation", F.lit(float("nan")))

    with monkeypatch.context() as patch:
        computed_by(patch, lake.lakehouse, "gold.session_metrics", spans_wrong_on(D2))
        computed_by(patch, lake.lakehouse, "gold.segment_performance", no_numbers)
        assert cli.main(["run", "--json"]) == 1
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    span = {"first": "2024-03-01", "last": "2024-03-02"}
    assert {one["table"]: (one["first"], one["last"]) for one in told["failed"]} == dict.fromkeys(
        failing, tuple(span.values())
    )
    assert told["left"] == [{"table": following[0], **span, "follows_from": failing[0]}]
    computed = {name for one in told["runs"] for name in one["tables"]}
    assert computed == set(lake.lakehouse.tables) - {*failing, *following}
    lines = printed.err.splitlines()
    assert {line.partition(" 2024")[0] for line in lines[:2]} == {f"lakehouse: {name}" for name in failing}
    assert any("duration_correlation is a finite number" in line for line in lines[:2])
    assert lines[2:] == [
        "lakehouse: not computed because of gold.session_metrics: gold.daily_session_metrics",
        "lakehouse: everything else is up to date",
    ]
    assert [row["daily_active_users"] for row in lake.table("gold.daily_metrics")] == [2, 2]
    assert len(lake.table("gold.weekly_metrics")) == 2
    assert lake.table("gold.session_metrics") == lake.table("gold.segment_performance") == []
    assert lake.stale().keys() == {*failing, *following}
    drawn = lake.lakehouse.settings.dashboard_path.read_text()
    assert "2024-03-02" in drawn
    assert "Nothing is computed yet." not in drawn

    assert cli.main(["status", "--json"]) == 0
    [stands] = json.loads(capsys.readouterr().out)
    assert (stands["first"], stands["last"], stands["state"]) == (*span.values(), FAILED)
    for name in failing:
        assert f"{name} 2024-03-01 … 2024-03-02 was not published" in stands["why"]
    assert stands["why"].endswith("also stale: gold.daily_session_metrics")

    assert cli.main(["run", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {name for one in again["runs"] for name in one["tables"]} == {*failing, *following}
    assert (again["failed"], again["left"]) == ([], [])
    assert lake.stale() == {}

    with monkeypatch.context() as patch:  # what was forgotten is told, whatever comes of the tables after it
        computed_by(patch, lake.lakehouse, "gold.segment_performance", no_numbers)
        assert cli.main(["forget", "b", "--yes", "--recompute"]) == 1
    printed = capsys.readouterr()
    assert "4 rows out of 2 landed files" in printed.out
    assert "gold.segment_performance 2024-03-01 … 2024-03-02 was not published" in printed.err


def test_a_full_disk_and_a_read_only_one_are_named_and_change_nothing(make_lake, tmp_path, capsys, monkeypatch):
    with small_disk(tmp_path / "disk", 16) as disk:
        lake = make_lake(("gold.daily_metrics",), warehouse=str(disk / "warehouse"))
        for variable, value in (("WAREHOUSE", lake.lakehouse.settings.warehouse), ("TABLES", "gold.daily_metrics")):
            monkeypatch.setenv(f"LAKEHOUSE_{variable}", value)
        monkeypatch.setenv("LAKEHOUSE_HOME", str(lake.lakehouse.settings.home_path))
        lake.rows(str(D1), *rows_of(D1))
        lake.run()
        before = published(lake)
        users = change(lake, D1)
        filler = disk / "filler"
        room = shutil.disk_usage(disk).free
        filler.write_bytes(b"x" * (room - 60_000))
        capsys.readouterr()
        assert cli.main(["run"]) == 1
        told = capsys.readouterr().err
        assert "lakehouse: no space is left; nothing half-written was published: " in told
        assert f"{disk}/warehouse has 0 MB free" in told
        assert "Make room and run again" in told
        after = published(lake)
        assert after["gold.daily_metrics"] == before["gold.daily_metrics"]
        filler.unlink()

        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert cli.main(["run"]) == 1
        assert capsys.readouterr().err == (
            f"lakehouse: {disk}/warehouse can't be written to; make it writable, or set LAKEHOUSE_WAREHOUSE to "
            "another folder\n"
        )
        assert published(lake) == after
        assert cli.main(["tables"]) == 0  # reading still works
        with pytest.raises(StorageTrouble, match="can't be written to"):
            lake.run()  # as a run that Dagster started
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        lake.run()
        assert active_users(lake, D1) == users
        assert lake.stale() == {}
        for name in lake.lakehouse.catalog.names():
            lake.lakehouse.catalog.iceberg.drop_table(name)


@pytest.mark.spark
def test_a_table_that_sail_has_not_the_memory_for_is_computed_by_spark_in_the_same_run(tmp_path):
    made = generate(tmp_path / "rows", users=3000, days=8, rows=30_000, seed=1)

    def lakehouse(home, *command, **settings):
        environment = {f"LAKEHOUSE_{name}": value for name, value in settings.items()}
        environment |= {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_TABLES": "silver.user_days"}
        process = [sys.executable, "-m", "lakehouse_assets.cli", *command]
        done = subprocess.run(process, env=os.environ | environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tables_at(home):
        catalog = Catalog(load_settings(home=home))
        return {name: catalog.iceberg.load_table(name) for name in catalog.names()}

    short, ample = tmp_path / "short", tmp_path / "ample"
    lakehouse(short, "land", "interactions", str(made.interactions_path))
    shutil.copytree(short / "landing", ample / "landing")
    said = lakehouse(short, "run", ENGINE="auto", DRIVER_MEMORY="4m")
    tables = tables_at(short)
    engines = {}
    for name, table in tables.items():
        (newest,) = [one for one in table.snapshots() if one.snapshot_id == head_of(table)]
        engines[name] = newest.model_dump()["summary"]["lakehouse.engine"]
    assert engines["bronze.interactions"] == "sail"
    went_over = {name for name, engine in engines.items() if engine == "spark"}
    assert "silver.interaction_routing" in went_over
    told = re.findall(r"^  (\S+) needs more than the 4 MB that Sail has \(.+\): Spark computes it$", said, re.M)
    assert sorted(told) == sorted(went_over)

    def rows(table):
        return sorted(str(row | {"ingested_at": None}) for row in table.scan().to_arrow().to_pylist())

    lakehouse(ample, "run", ENGINE="sail", DRIVER_MEMORY="1g")
    assert {name: rows(table) for name, table in tables_at(ample).items()} == {
        name: rows(table) for name, table in tables.items()
    }
