"""Maintenance: what is freed, what must stay, and that it may run beside runs and readers."""

import os
import random
import threading
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from pyarrow.fs import AwsStandardS3RetryStrategy, LocalFileSystem, S3FileSystem

from lakehouse_assets.calendar import DAY, days_between
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.engines.spark import BranchStaging
from lakehouse_assets.planning.planner import DroppedDays
from lakehouse_assets.storage.catalog import kept_from
from lakehouse_assets.storage.maintenance import small_neighbours
from lakehouse_assets.storage.s3 import StorageError, name_unserved
from lakehouse_assets.storage.warehouse import PublishConflict

NAME = "silver.user_days"
BY_MONTH = "gold.daily_metrics"


def rows_of(spark, lake, day, users=3):
    start = datetime(day.year, day.month, day.day, 10, tzinfo=UTC)
    rows = [(day, f"u{k}", 2, 1, 1, 0, 0, 0, day.day, start, start) for k in range(users)]
    return spark.createDataFrame(rows, lake.lakehouse.tables[NAME].spark_schema)


def publish(spark, lake, day, users=3, stamp="s"):
    warehouse = lake.lakehouse.warehouse
    base = warehouse.base(NAME, {day: f"{stamp}{day}"})
    return warehouse.publish(warehouse.begin(NAME, rows_of(spark, lake, day, users), day, day, base), {})


def folder_of(lake, name=NAME) -> Path:
    return Path(lake.lakehouse.catalog.load(name).location().removeprefix("file://"))


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def live_files(lake, name=NAME):
    found = lake.lakehouse.catalog.load(name).scan().plan_files()
    return {Path(task.file.file_path.removeprefix("file:").replace("//", "/")) for task in found}


def age(path, days):
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ([(1, 1, 10), (2, 2, 10), (3, 3, 10)], [(1, 3)]),
        ([(1, 1, 60), (2, 2, 60), (3, 3, 30)], [(2, 3)]),
        ([(1, 1, 100), (2, 2, 100)], []),
        ([(1, 1, 60), (1, 1, 60), (2, 2, 60)], []),  # a big day keeps its files
        ([(1, 1, 30), (1, 1, 30), (2, 2, 60)], [(1, 1)]),
        ([(1, 4, 10), (3, 6, 10), (7, 7, 10)], [(1, 7)]),
        ([(30, 30, 10), (31, 31, 10), (32, 32, 10), (33, 33, 10)], [(30, 31), (32, 33)]),  # not across months
        ([(1, 1, 10), (60, 60, 10), (61, 61, 10)], []),  # the unfinished month waits
        ([], []),
    ],
)
def test_small_neighbours(files, wanted):
    first = date(2024, 1, 1) - DAY
    dated = [(first + low * DAY, first + high * DAY, rows) for low, high, rows in files]
    assert small_neighbours(dated, 100, date(2024, 2, 29)) == [
        (first + low * DAY, first + high * DAY) for low, high in wanted
    ]


def test_daily_files_are_put_together_and_old_snapshots_go_while_rows_and_stamps_stay(make_lake, spark):
    lake = make_lake()
    for day in days_between(date(2024, 1, 30), date(2024, 2, 1)):
        publish(spark, lake, day)
    maintenance = lake.lakehouse.maintenance
    before, stamps = lake.table(NAME), lake.lakehouse.catalog.stamps(NAME)
    assert len(live_files(lake)) == 3
    replaced = live_files(lake)

    done = maintenance.maintain(NAME)
    assert (done.compacted, done.gave_way, done.snapshots, done.files) == (2, 0, 0, 0)
    assert len(live_files(lake)) == 2
    assert replaced <= files_in(folder_of(lake))  # readers of earlier snapshots still have them
    head = lake.lakehouse.catalog.load(NAME).current_snapshot()
    assert len(head.manifests(lake.lakehouse.catalog.load(NAME).io)) == 1

    later = datetime.now(tz=UTC) + timedelta(days=8)
    held = len(lake.lakehouse.catalog.load(NAME).snapshots())
    assert maintenance.expire(NAME, later) == held - 1
    assert len(files_in(folder_of(lake)) & replaced) == 1
    assert lake.table(NAME) == before
    assert lake.lakehouse.catalog.stamps(NAME) == stamps
    assert maintenance.compact(NAME) == (0, 0)
    assert maintenance.expire(NAME, later) == 0


@pytest.mark.spark
def test_a_snapshot_stays_for_its_days_after_it_was_replaced_however_old_it_is(make_lake, spark):
    lake = make_lake()
    day = date(2024, 1, 1)
    publish(spark, lake, day)
    warehouse, maintenance = lake.lakehouse.warehouse, lake.lakehouse.maintenance
    reading = warehouse.read(NAME, day, day)
    time.sleep(0.01)
    idle_until = datetime.now(tz=UTC)  # the table rested for long, and is written just now
    publish(spark, lake, day, users=5)
    publish(spark, lake, day, users=7)
    expired = maintenance.expire(NAME, idle_until + timedelta(days=7))
    assert expired == 2  # the empty beginning and the first staging
    assert reading.count() == 3
    assert maintenance.expire(NAME, datetime.now(tz=UTC) + timedelta(days=7)) > 0
    assert warehouse.read(NAME, day, day).count() == 7


@pytest.mark.spark
def test_what_a_killed_run_left_is_removed_and_live_or_young_files_stay(make_lake, spark):
    lake = make_lake()
    days = [date(2024, 1, 1), date(2024, 1, 2)]
    publish(spark, lake, days[0])
    warehouse, maintenance = lake.lakehouse.warehouse, lake.lakehouse.maintenance
    before = lake.table(NAME)

    table = lake.lakehouse.catalog.load(NAME)
    staging = warehouse.engine.stage(table, rows_of(spark, lake, days[1]), [], {})  # killed after staging
    BranchStaging(warehouse.engine, lake.lakehouse.catalog, NAME)  # killed before it
    staged = {Path(f.file_path) for f in staging.files}
    assert staged
    data = folder_of(lake) / "data"
    orphan, young = data / "orphan.parquet", data / "young.parquet"
    for path in (orphan, young):
        path.write_bytes(b"half a file")
    for path in files_in(folder_of(lake)) - {young}:
        age(path, 2)

    assert maintenance.maintain(NAME).branches == 0  # these runs may still be there
    assert staged <= files_in(folder_of(lake))
    assert not orphan.exists()
    assert young.exists()
    tomorrow = datetime.now(tz=UTC) + timedelta(hours=25)
    removed, heads = maintenance.remove_abandoned(NAME, tomorrow)
    assert (removed, len(heads)) == (2, 1)
    assert maintenance.expire(NAME, datetime.now(tz=UTC), heads) == 1
    assert not staged & files_in(folder_of(lake))
    assert set(lake.lakehouse.catalog.load(NAME).refs()) == {"main"}
    assert lake.table(NAME) == before
    assert live_files(lake) <= files_in(folder_of(lake))


@pytest.mark.spark
def test_a_run_whose_staging_was_removed_as_abandoned_computes_again(make_lake, spark, monkeypatch):
    lake = make_lake()
    day = date(2024, 1, 1)
    publish(spark, lake, day)
    before = lake.table(NAME)
    warehouse, maintenance = lake.lakehouse.warehouse, lake.lakehouse.maintenance
    publishing = warehouse._publish

    def late(*arguments):
        maintenance.remove_abandoned(NAME, datetime.now(tz=UTC) + timedelta(hours=25))
        return publishing(*arguments)

    monkeypatch.setattr(warehouse, "_publish", late)
    with pytest.raises(PublishConflict, match="LAKEHOUSE_ABANDONED_HOURS"):
        publish(spark, lake, day, users=9)
    assert lake.table(NAME) == before


def test_compaction_gives_way_to_a_publication_and_a_publication_to_a_compaction(make_lake, spark, monkeypatch):
    lake = make_lake()
    days = days_between(date(2024, 1, 1), date(2024, 1, 3))
    for day in [*days, date(2024, 2, 1)]:
        publish(spark, lake, day)
    warehouse, maintenance = lake.lakehouse.warehouse, lake.lakehouse.maintenance
    base = warehouse.base(NAME, {days[0]: "older"})
    publishing = warehouse._publish

    def overtaken(*arguments):
        monkeypatch.setattr(warehouse, "_publish", publishing)
        publish(spark, lake, days[1], users=8)
        return publishing(*arguments)

    monkeypatch.setattr(warehouse, "_publish", overtaken)
    assert maintenance.compact(NAME) == (0, 1)
    assert sum(row["event_date"] == days[1] for row in lake.table(NAME)) == 8
    assert maintenance.compact(NAME) == (3, 0)
    compacted = lake.table(NAME)
    with pytest.raises(PublishConflict):
        warehouse.publish(warehouse.begin(NAME, rows_of(spark, lake, days[0], 9), days[0], days[0], base), {})
    assert lake.table(NAME) == compacted
    assert set(lake.lakehouse.catalog.load(NAME).refs()) == {"main"}


def beside_maintenance(lake, seed, rerun):
    """Run while every table is compacted, expired and cleared of orphans; the tables must not change."""
    maintenance, catalog = lake.lakehouse.maintenance, lake.lakehouse.catalog
    names = maintenance.tables()
    before = {name: (lake.table(name), catalog.stamps(name)) for name in names}
    for name in names:  # all that is there counts as old
        for path in files_in(folder_of(lake, name)):
            age(path, 3)
        (folder_of(lake, name) / "metadata" / "orphan.avro").write_bytes(b"x")
        age(folder_of(lake, name) / "metadata" / "orphan.avro", 3)
    began = datetime.now(tz=UTC)
    chance = random.Random(seed)
    stop, failures, did = threading.Event(), [], []

    def maintain():
        while not stop.is_set():
            name = chance.choice(names)
            try:
                compacted, _ = maintenance.compact(name)
                # as if the newest snapshots of before the backfill were a week old: those it reads must stay
                expired = maintenance.expire(name, began + timedelta(maintenance._warehouse.settings.snapshot_days))
                maintenance.remove_orphans(name)
                did.append((name, compacted, expired))
            except Exception as error:  # shown below, whatever it is
                failures.append((name, error))

    beside = threading.Thread(target=maintain)
    beside.start()
    try:
        rerun(chance)
    finally:
        stop.set()
        beside.join(timeout=120)
    assert not beside.is_alive()
    assert failures == []
    assert any(expired for _, _, expired in did)
    for name in names:
        maintenance.remove_orphans(name)
        assert not (folder_of(lake, name) / "metadata" / "orphan.avro").exists()
        assert live_files(lake, name) <= files_in(folder_of(lake, name))
        assert without_time(lake.table(name)) == without_time(before[name][0]), name
        assert catalog.stamps(name) == before[name][1], name
        assert set(catalog.load(name).refs()) == {"main"}
    return did


def without_time(rows):
    return sorted(str({key: value for key, value in row.items() if key != "ingested_at"}) for row in rows)


def landed(lake, days):
    for i, day in enumerate(days):
        lake.rows(day.isoformat(), *[f"u{k},{day} {k:02}:00:00,edit,p,{k},1" for k in range(i % 3, i % 3 + 3)])


def test_publications_beside_maintenance_change_nothing(make_lake, spark):
    lake = make_lake()
    days = [date(2024, 1, 30), date(2024, 1, 31), date(2024, 2, 1)]
    for day in days:
        publish(spark, lake, day)

    def rerun(chance):
        for _ in range(4):
            day = chance.choice(days)
            for _ in range(5):  # as a run does
                try:
                    publish(spark, lake, day)
                    break
                except PublishConflict:
                    pass
            else:
                raise AssertionError(f"{day} met a conflict five times")

    beside_maintenance(lake, 1, rerun)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_backfills_beside_maintenance_change_nothing(make_lake, seed):
    lake = make_lake()
    days = days_between(date(2024, 1, 20), date(2024, 2, 1))
    landed(lake, days)
    lake.run()

    def rerun(chance):
        for _ in range(6):
            start = chance.choice(days[1:-2])  # days inside the month's file, which splits it
            lake.runner.run_range(start, start + chance.choice([0, 1]) * DAY)

    did = beside_maintenance(lake, seed, rerun)
    assert any(compacted for _, compacted, _ in did)
    assert lake.run() == []


def test_cleanup_drops_days_of_a_shared_file_and_the_planner_leaves_them_alone(make_lake, spark):
    lake = make_lake()
    days = days_between(date(2024, 1, 1), date(2024, 1, 3))
    landed(lake, days_between(days[0], date(2024, 3, 1)))
    for day in [*days, date(2024, 2, 5)]:
        publish(spark, lake, day)
    maintenance, catalog, stamps = lake.lakehouse.maintenance, lake.lakehouse.catalog, lake.lakehouse.planner
    assert maintenance.compact(NAME) == (3, 0)
    [dropping] = maintenance.plan_cleanup(7)
    assert (dropping.first_kept, dropping.kept_days, dropping.days, dropping.rows) == (days[2], 33, 2, 6)
    assert lake.lakehouse.catalog.load(NAME).scan().count() == 12
    base = lake.lakehouse.warehouse.base(NAME, {days[0] - DAY: "never computed yet"})
    maintenance.drop(dropping)

    assert {row["event_date"] for row in lake.table(NAME)} == {days[2], date(2024, 2, 5)}
    assert set(catalog.stamps(NAME)) == {days[2], date(2024, 2, 5)}
    assert kept_from(catalog.load(NAME)) == days[2]
    assert maintenance.plan_cleanup(7) == []
    stale = stamps.stale(lake.lakehouse.zone.listings())
    assert (min(stale["silver.interactions"]), min(stale[NAME])) == (days[0], days[2])
    assert min(stale[BY_MONTH]) == days[2] + 29 * DAY
    with pytest.raises(DroppedDays, match=r"user_days 2024-01-02 can't be computed again.* begin at 2024-01-03"):
        stamps.expected(NAME, [days[1]])
    warehouse, day = lake.lakehouse.warehouse, days[0] - DAY
    with pytest.raises(PublishConflict, match="dropped meanwhile"):
        warehouse.publish(warehouse.begin(NAME, rows_of(spark, lake, day), day, day, base), {})


@pytest.mark.faults
def test_cleanup_drops_whole_days_of_every_table(make_lake):
    lake = make_lake()
    first, last = date(2024, 1, 1), date(2024, 2, 14)
    landed(lake, days_between(first, last))
    lake.rows("2024-01-01", "u0,2024-01-01,DE,ios,free", dataset="users")
    lake.rows("2024-02-10", "u1,2024-01-01,FR,ios,free", dataset="users")
    lake.run()
    maintenance, catalog = lake.lakehouse.maintenance, lake.lakehouse.catalog
    before = {name: lake.table(name) for name in lake.lakehouse.tables}
    plan = maintenance.plan_cleanup(7)
    assert {name: lake.table(name) for name in lake.lakehouse.tables} == before
    for dropping in plan:
        maintenance.drop(dropping)

    kept = {dropping.table: dropping.first_kept for dropping in plan}
    assert kept[BY_MONTH] == kept["bronze.interactions"] == last - 7 * DAY
    assert kept[NAME] == last - 33 * DAY  # other tables look back 30 days, and a row may be 3 days late
    assert not [name for name in kept if "users" in name]  # what a file said of them holds until another says otherwise
    for dropping in plan:
        name, column = dropping.table, lake.lakehouse.tables[dropping.table].partition_column
        wanted = [row for row in before[name] if row[column] >= dropping.first_kept]
        assert lake.table(name) == wanted, name
        assert len(before[name]) - len(wanted) == dropping.rows, name
        assert min(catalog.stamps(name)) >= dropping.first_kept == kept_from(catalog.load(name)), name
        assert set(catalog.load(name).refs()) == {"main"}
    assert lake.run() == []
    assert maintenance.plan_cleanup(7) == maintenance.plan_cleanup(30) == []

    with pytest.raises(DroppedDays, match=r"begin at 2024-02-11 or later"):
        lake.runner.run_range(date(2024, 2, 1), last)
    with pytest.raises(DroppedDays):
        lake.lakehouse.planner.expected("bronze.interactions", [first])


@pytest.mark.faults
def test_after_cleanup_new_and_late_rows_count_as_if_nothing_had_been_dropped(make_lake):
    lake = make_lake()
    first, last = date(2024, 1, 1), date(2024, 2, 14)
    landed(lake, days_between(first, last))
    lake.run()
    maintenance = lake.lakehouse.maintenance
    before = {row["date"]: row for row in lake.table(BY_MONTH)}
    for dropping in maintenance.plan_cleanup(7):
        maintenance.drop(dropping)
    files, size = lake.lakehouse.zone.remove_before("interactions", maintenance.landed_before([])["interactions"])
    assert files == 37
    assert size > 0
    assert lake.run() == []
    assert lake.lakehouse.zone.dates("interactions")[0] == first  # the partitions begin where they did

    lake.rows("2024-02-15", "u0,2024-02-15 10:00:00,edit,p,1,1", "u9,2024-02-12 10:00:00,edit,p,1,1")
    lake.run()
    newest = lake.by_day(BY_MONTH)["2024-02-15"]
    assert (newest["daily_active_users"], newest["monthly_active_users_30d"]) == (1, 6)
    for row in lake.table(BY_MONTH):
        assert row["date"] >= date(2024, 2, 12) or row == before[row["date"]]


def test_the_maintenance_job_shows_what_it_did_per_table(make_lake, spark):
    lake = make_lake(retention_days=40)
    for day in (date(2024, 1, 1), date(2024, 2, 11)):
        publish(spark, lake, day)
    job = build_definitions(lake.lakehouse).resolve_job_def("maintenance")
    done = job.execute_in_process(run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}})
    shown: dict = {}
    for event in done.get_asset_materialization_events():
        assert event.asset_key
        shown["/".join(event.asset_key.path)] = event.step_materialization_data.materialization.metadata
    assert [
        (r.data["table"], r.data["days"], r.data["rows"]) for r in shown["maintenance/retention"]["tables"].records
    ] == [(NAME, 1, 3)]
    freed = shown["maintenance/storage"]
    assert [record.data["table"] for record in freed["tables"].records] == [NAME]
    assert {"files", "bytes", "snapshots", "branches", "compacted"} <= freed.keys()
    schedule = build_definitions(lake.lakehouse).resolve_schedule_def("weekly_maintenance")
    assert schedule.cron_schedule == "0 3 * * 0"


def test_the_lakehouse_job_does_not_maintain(make_lake):
    job = build_definitions(make_lake().lakehouse).resolve_job_def("lakehouse")
    assert dg.AssetKey(["maintenance", "storage"]) not in job.asset_layer.executable_asset_keys


def test_a_store_that_does_not_serve_is_told_from_a_damaged_file(tmp_path):
    store = S3FileSystem(
        access_key="canary",
        secret_key="canary",
        endpoint_override="http://127.0.0.1:9",
        region="us-east-1",
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
    )
    with pytest.raises(OSError, match="AWS Error") as unserved:
        store.open_input_file("bucket/table/snap-1.avro")
    with pytest.raises(StorageError, match=r"table/snap-1\.avro: the S3 store does not serve it .*NETWORK_CONN"):
        name_unserved(unserved.value, "table/snap-1.avro")
    with pytest.raises(FileNotFoundError) as missing:
        LocalFileSystem().open_input_file(str(tmp_path / "snap-1.avro"))
    name_unserved(missing.value, "table/snap-1.avro")
