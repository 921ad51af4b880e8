"""What runs by itself: the landing sensor, the end of a day, retries, status, and what is told of failures."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.calendar import ALL_DAYS, days_between, month_first, month_last
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing.deliver import split
from lakehouse_assets.landing.files import LandingError
from lakehouse_assets.orchestration import sensors
from lakehouse_assets.orchestration.dagster_internals import (
    GRPC_INFO_TAG,
    PARTITION_NAME_TAG,
    RUN_KEY_TAG,
    WorkerStatus,
)
from lakehouse_assets.orchestration.failures import failure_of
from lakehouse_assets.orchestration.instance import (
    HOST_TAG,
    PROCESS_TAG,
    WatchingRunLauncher,
    process_tags,
    terminal_instance,
)
from lakehouse_assets.orchestration.jobs import DASHBOARD_JOB, daily_partitions, run_tags
from lakehouse_assets.orchestration.runs import JOB
from lakehouse_assets.orchestration.status import FAILED, STALE, UP_TO_DATE, status
from lakehouse_assets.planning.planner import Planner, RangeError, Work
from lakehouse_assets.runner import DaysLeftOut
from lakehouse_assets.settings import SettingsError, load_settings
from lakehouse_assets.storage.catalog import Catalog, files_overlapping, forget_days
from lakehouse_assets_tests.conftest import computed_by
from lakehouse_assets_tests.test_faults import spans_wrong_on

OF_USERS = ("bronze.users", "silver.rejected_users", "silver.user_changes", "silver.user_counts", "silver.users")


class Daemon:
    """What Dagster's daemon does with the landing sensor, run by run key, but in this process."""

    def __init__(self, lakehouse, instance):
        self.lakehouse, self.instance, self.cursor = lakehouse, instance, None
        self.sensor = sensors.landing_sensor(lakehouse)
        self.job = build_definitions(lakehouse).resolve_job_def(JOB)

    def tick(self, cursor=None):
        context = dg.build_sensor_context(instance=self.instance, cursor=cursor or self.cursor)
        tick = self.sensor.evaluate_tick(context)
        self.cursor = tick.cursor
        return tick

    def execute(self, request):
        return self.job.execute_in_process(
            instance=self.instance,
            asset_selection=request.asset_selection,
            tags={**request.tags, RUN_KEY_TAG: request.run_key},
            raise_on_error=False,
        )

    def until_quiet(self):
        """Tick until nothing is asked for any more; what was asked for, as tables and days, and the last reason."""
        asked = []
        while True:
            tick = self.tick()
            for request in tick.run_requests or ():
                asked.append(described(request))
                self.execute(request)
            if not tick.run_requests and tick.skip_message and "may still be written to" not in tick.skip_message:
                return asked, tick.skip_message


def described(request):
    first, last = (request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
    return sorted(".".join(key.path) for key in request.asset_selection), first, last


@contextlib.contextmanager
def daemon_of(lakehouse):
    with terminal_instance(lakehouse.settings) as instance:
        yield Daemon(lakehouse, instance)


@pytest.fixture(autouse=True)
def records(tmp_path, new_records):
    """Dagster's databases for a lakehouse in the test's folder."""
    new_records(tmp_path)


def planned_only(tmp_path, **settings):
    """A lakehouse whose runs are asked for and not made, so no Spark is needed."""
    return Lakehouse(load_settings(home=tmp_path, **settings))


def drop(lakehouse, day, text="u,{day} 10:00:00,edit,p,1,1", dataset="interactions", name="a.csv"):
    folder = lakehouse.zone.folder(dataset, date.fromisoformat(day))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{','.join(DATASETS[dataset])}\n{text.format(day=day)}\n")
    return folder / name


def test_a_correction_recomputes_exactly_what_can_change(make_lake):
    tables = ("silver.interaction_counts", "gold.daily_metrics", "gold.monthly_metrics", "gold.session_metrics")
    lake = make_lake(tables)
    days = days_between(date(2023, 12, 17), date(2024, 2, 14))
    for day in days:
        lake.rows(f"{day}", f"u,{day} 10:00:00,edit,p,1,1", f"v{day.day},{day} 11:00:00,edit,p,1,1")
    lake.run()
    names = list(lake.lakehouse.tables)
    before = {name: lake.table(name) for name in names}
    files_before = {name: data_files(lake, name) for name in names}
    with daemon_of(lake.lakehouse) as daemon:
        assert daemon.tick().run_requests == []  # the first look can't tell whether files still change
        assert daemon.until_quiet() == ([], "everything is up to date")
        assert json.loads(daemon.cursor) == {"interactions": {}, "users": {}}  # Dagster keeps one of every tick
        with pytest.MonkeyPatch.context() as patch:  # at rest nothing is planned
            patch.delattr(Planner, "stale")
            assert daemon.tick().skip_message == "everything is up to date"
        drawn = drawing(lake.lakehouse, daemon.instance)
        # a new version of one file: an action less and another duration that day, and a row of the day before
        lake.rows("2024-01-05", "u,2024-01-05 10:00:00,edit,p,9,1", "u,2024-01-04 10:30:00,share,p,9,1")
        assert drawing(lake.lakehouse, daemon.instance) == drawn
        asked, _ = daemon.until_quiet()
        assert drawing(lake.lakehouse, daemon.instance) not in (drawn, None)
    files = ["bronze.interactions", "silver.interaction_routing", "silver.rejected_interactions"]
    rows = ["gold.session_metrics", "silver.interactions", "silver.user_days"]
    assert asked == [
        (files, "2024-01-05", "2024-01-05"),
        (sorted([*rows, "silver.interaction_counts"]), "2024-01-04", "2024-01-05"),
        # the month's three days on cost less than a run of its own
        (["gold.daily_metrics", "gold.monthly_metrics"], "2024-01-04", "2024-02-03"),
    ]
    after = {name: lake.table(name) for name in names}
    touched = {str(row["event_date"]) for row in after["silver.user_days"] if row not in before["silver.user_days"]}
    assert touched == {"2024-01-04", "2024-01-05"}
    for name in names:  # no data file but those of the days asked for, and of the months that share one, has changed
        stretches = [(date.fromisoformat(first), date.fromisoformat(last)) for t, first, last in asked if name in t]
        kept = {path for path, low, high in files_before[name] if not touches(stretches, low, high)}
        files_now = data_files(lake, name)
        assert kept <= {path for path, _, _ in files_now}, name
        assert {path for path, low, high in files_now if not touches(stretches, low, high)} <= kept, name
        assert len(files_before[name]) > 1 or name in ("bronze.users", "silver.rejected_interactions"), name
    gold = [name for name in names if name.startswith("gold")]
    fresh = rebuilt(make_lake, lake, gold)
    assert {name: fresh.table(name) for name in gold} == {name: after[name] for name in gold}


def data_files(lake, name):
    """A table's live files, each with its first and last day."""
    table = lake.lakehouse.catalog.load(name)
    if table is None:
        return set()
    column = lake.lakehouse.tables[name].partition_column
    return {(path, low, high) for path, (_, low, high) in files_overlapping(table, column, *ALL_DAYS).items()}


def touches(stretches, low, high):
    """Whether a file may hold the days: it is of the month of one of them."""
    return any(month_first(first) <= high and low <= month_last(last) for first, last in stretches)


def test_a_range_computes_users_only_between_their_first_and_last_delivery(tmp_path):
    lakehouse = planned_only(tmp_path)
    first, last = date(2024, 3, 1), date(2024, 3, 9)
    every = tuple(lakehouse.tables)
    others = tuple(name for name in every if name not in OF_USERS)
    assert lakehouse.planner.range_work(first, last) == [Work(others, first, last)]
    for day in (3, 5):
        drop(lakehouse, f"2024-03-0{day}", "u,2024-01-01,DE,web,free", dataset="users")
    assert lakehouse.planner.range_work(first, last) == [
        Work(OF_USERS, date(2024, 3, 3), date(2024, 3, 5)),
        Work(others, first, last),
    ]
    days = days_between(first, last)
    assert set(lakehouse.planner.expected("bronze.users", days)) == {date(2024, 3, day) for day in (3, 4, 5)}
    assert lakehouse.planner.range_work(date(2024, 3, 3), date(2024, 3, 5)) == [
        Work(every, date(2024, 3, 3), date(2024, 3, 5))
    ]


def test_the_tables_have_a_deadline_and_runs_an_end(tmp_path):
    definitions = build_definitions(planned_only(tmp_path, expected_hour=23, run_timeout_hours=1.5))
    policies = {spec.key.to_user_string(): spec.freshness_policy for spec in definitions.resolve_all_asset_specs()}
    assert policies["gold/daily_metrics"] == dg.FreshnessPolicy.cron("0 0 * * *", timedelta(hours=23), "UTC")
    assert policies["silver/users"] is None
    assert definitions.resolve_job_def(JOB).tags[dg.MAX_RUNTIME_SECONDS_TAG] == "5400"
    with terminal_instance(load_settings(home=tmp_path)) as instance:
        assert instance.freshness_enabled
        assert instance.run_monitoring_enabled


def drawing(lakehouse, instance):
    """By which name the dashboard's sensor asks for it now; the daemon runs each name once."""
    tick = sensors.dashboard_sensor(lakehouse).evaluate_tick(dg.build_sensor_context(instance=instance))
    [request] = tick.run_requests or ()
    return request.run_key


def test_the_dashboard_is_an_asset_that_draws_what_there_is(tmp_path):
    lakehouse = planned_only(tmp_path)
    job = build_definitions(lakehouse).resolve_job_def(DASHBOARD_JOB)
    with daemon_of(lakehouse) as daemon:
        tick = sensors.dashboard_sensor(lakehouse).evaluate_tick(dg.build_sensor_context(instance=daemon.instance))
        assert tick.skip_message == "nothing is computed yet"
        assert job.execute_in_process(instance=daemon.instance).success
    assert "Nothing is computed yet." in lakehouse.settings.dashboard_path.read_text()


def rebuilt(make_lake, lake, tables):
    """A new lake with the same files, of some of the tables, computed at once."""
    root = lake.lakehouse.zone.root
    files = {path.relative_to(root): path.read_bytes() for path in root.rglob("*.csv")}
    fresh = make_lake(tables)
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    fresh.run()
    return fresh


def test_what_is_asked_for_has_one_name_until_it_is_computed(tmp_path):
    lakehouse = planned_only(tmp_path)
    file = drop(lakehouse, "2024-03-01")
    with daemon_of(lakehouse) as daemon:
        first_look = daemon.tick().cursor
        request = daemon.tick().run_requests[0]
        assert described(request)[1:] == ("2024-03-01", "2024-03-01")
        # a daemon that died before it saved the cursor asks for the same by the same name
        assert daemon.tick(first_look).run_requests[0].run_key == request.run_key
        # and one whose cursor somebody has reset, or set to anything, looks twice again
        for reset in (
            "",
            "0",
            "[]",
            '"x"',
            "null",
            '{"interactions": 1}',
            '{"interactions": {"2024-03-01": 1, "x": 2}}',
            "{",
        ):
            daemon.cursor = reset
            assert daemon.tick().skip_message == "2024-03-01 may still be written to"
            assert daemon.tick().run_requests[0].run_key == request.run_key
        # so does one whose clock went back, and the time of a file without new content says nothing
        os.utime(file, (1, 1))
        daemon.tick()
        assert daemon.tick().run_requests[0].run_key == request.run_key
        earlier = file.read_text()
        drop(lakehouse, "2024-03-01", "other,{day} 10:00:00,edit,p,1,1")
        daemon.tick()
        assert daemon.tick().run_requests[0].run_key != request.run_key
        file.write_text(earlier)
        daemon.tick()
        assert daemon.tick().run_requests[0].run_key == request.run_key


def test_nothing_is_asked_for_while_a_run_has_not_ended(tmp_path):
    lakehouse = planned_only(tmp_path)
    drop(lakehouse, "2024-03-01")
    with daemon_of(lakehouse) as daemon:
        daemon.tick()
        run = daemon.instance.create_run_for_job(daemon.job, status=dg.DagsterRunStatus.STARTED)
        tick = daemon.tick()
        assert (tick.run_requests, tick.skip_message) == ([], f"run {run.run_id} has not ended yet")
        daemon.instance.report_run_failed(run)
        assert len(daemon.tick().run_requests) == 1


def test_files_of_many_dates_at_once_are_asked_for_in_portions_and_none_is_skipped(tmp_path):
    lakehouse = planned_only(tmp_path)
    days = [f"{date(2021, 1, 1) + timedelta(2 * number)}" for number in range(5 * sensors.MOST_RUNS_A_LOOK)]
    for day in days:  # each apart from the next, as the day between has a file that is refused
        drop(lakehouse, day, dataset="users")
        between = drop(lakehouse, f"{date.fromisoformat(day) + timedelta(1)}", dataset="users")
        between.write_bytes(b"")
    asked = []
    with dg.DagsterInstance.ephemeral() as instance:
        daemon = Daemon(lakehouse, instance)
        daemon.tick()
        while requests := daemon.tick().run_requests:
            assert len(requests) <= sensors.MOST_RUNS_A_LOOK
            for request in requests:
                asked.append(described(request))
                tags = {**request.tags, RUN_KEY_TAG: request.run_key}
                run = dg.DagsterRun(JOB, tags=tags, status=dg.DagsterRunStatus.FAILURE)
                instance.run_storage.add_run(run)  # what failed is not asked for again
    assert sorted((first, last) for _, first, last in asked) == [(day, day) for day in days]
    # users' versions of later days follow from those of the days that failed
    assert [names for names, *_ in sorted(asked, key=lambda one: one[1])][:25] == [sorted(OF_USERS)] * 25
    assert all("bronze.users" in names and "silver.user_changes" not in names for names, *_ in asked[25:])


def test_a_refused_file_keeps_no_other_day_waiting_and_is_told_of(make_lake):
    lake = make_lake(("gold.daily_metrics",))
    lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,1,1")
    bad = lake.deliver("2024-03-02", "")
    with daemon_of(lake.lakehouse) as daemon:
        asked, reason = daemon.until_quiet()
        assert {(first, last) for _, first, last in asked} == {("2024-03-01", "2024-03-01")}
        assert reason == f"{bad}: is empty (0 bytes); a day without rows needs at least the header"
        assert set(lake.by_day("gold.daily_metrics")) == {"2024-03-01"}
        stands = {one.first.isoformat(): one for one in status(lake.lakehouse, lambda: nullcontext(daemon.instance))}
        # the file that can't be read may hold late rows of the day before
        assert stands["2024-03-01"].state == STALE
        assert stands["2024-03-01"].why.startswith("silver.interactions: depends on bronze.interactions (")
        assert (stands["2024-03-02"].state, stands["2024-03-02"].files, stands["2024-03-02"].why) == (FAILED, 1, reason)

        lake.rows("2024-03-03", "w,2024-03-03 10:00:00,edit,p,1,1")
        with pytest.raises(DaysLeftOut, match=r"is empty .*; every other day is up to date"):
            lake.run()  # a person who asks for it hears it, when all the rest is done
        users = {day: row["daily_active_users"] for day, row in lake.by_day("gold.daily_metrics").items()}
        assert users == {"2024-03-01": 1, "2024-03-03": 1}

        lake.rows("2024-03-02", "v,2024-03-02 10:00:00,edit,p,1,1")
        mended = {one.first.isoformat(): one for one in status(lake.lakehouse, lambda: nullcontext(daemon.instance))}[
            "2024-03-02"
        ]
        assert mended.state == STALE
        assert daemon.until_quiet()[1] == "everything is up to date"
        assert [one.state for one in status(lake.lakehouse, lambda: nullcontext(daemon.instance))] == [UP_TO_DATE]
        before = lake.by_day("gold.daily_metrics")
        assert before["2024-03-03"]["monthly_active_users_30d"] == 3

        third = lake.lakehouse.zone.folder("interactions", date(2024, 3, 3))
        third.rename(third.with_name("elsewhere"))
        third.symlink_to("nowhere")  # as when what it leads to is not mounted
        assert daemon.until_quiet() == (
            [],
            f"{third}: can't be listed (No such file or directory); change its permissions or remove it",
        )
        root = lake.lakehouse.zone.root
        root.rename(root.with_name("unmounted"))
        with pytest.raises(LandingError, match=r"interactions is missing, .* Mount it"):
            daemon.tick()
        assert lake.by_day("gold.daily_metrics") == before


def test_a_table_that_fails_keeps_no_other_waiting_and_is_asked_for_again_when_something_changes(
    make_lake, monkeypatch
):
    lake = make_lake(tables=("gold.daily_metrics", "gold.session_distribution"))
    of_sessions = {"gold.session_metrics", "gold.session_distribution"}
    for day in (1, 2):
        lake.rows(f"2024-03-0{day}", f"u,2024-03-0{day} 10:00:00,edit,p,1,1")
    told = (
        "gold.session_metrics 2024-03-01 … 2024-03-02 was not published, readers keep the previous data: check",
        "; nothing has changed since; not computed because of gold.session_metrics: gold.session_distribution",
    )
    with daemon_of(lake.lakehouse) as daemon, monkeypatch.context() as patch:
        computed_by(patch, lake.lakehouse, "gold.session_metrics", spans_wrong_on(date(2024, 3, 1)))
        asked, reason = daemon.until_quiet()
        assert [(first, last) for _, first, last in asked] == [("2024-03-01", "2024-03-02")] * 2
        assert reason.startswith(told[0])
        assert reason.endswith(told[1])
        assert set(lake.by_day("gold.daily_metrics")) == {"2024-03-01", "2024-03-02"}
        assert lake.stale().keys() == of_sessions
        [stands] = status(lake.lakehouse, lambda: nullcontext(daemon.instance))
        assert stands.state == FAILED
        assert stands.why.startswith(told[0])
        assert stands.why.endswith("; also stale: gold.session_distribution")
        # nor does a daemon ask that has just started, nor the UI's backfill get less
        assert Daemon(lake.lakehouse, daemon.instance).until_quiet() == ([], reason)
        days = {f"dagster/asset_partition_range_{end}": f"2024-03-0{day}" for end, day in (("start", 1), ("end", 2))}
        everything = daemon.job.execute_in_process(instance=daemon.instance, tags=days, raise_on_error=False)
        assert not everything.success
        made = {".".join(event.asset_key.path) for event in everything.get_asset_materialization_events()}
        assert made == lake.lakehouse.tables.keys() - of_sessions
        # a day that can be computed is, in every table
        lake.rows("2024-03-03", "u,2024-03-03 10:00:00,edit,p,1,1")
        asked, reason = daemon.until_quiet()
        assert {name for names, *_ in asked for name in names} >= of_sessions
        assert {(first, last) for names, first, last in asked if of_sessions & set(names)} == {("2024-03-03",) * 2}
        assert reason.startswith(told[0])
        assert {str(row["session_date"]) for row in lake.table("gold.session_metrics")} == {"2024-03-03"}
        patch.undo()
        # mended in the code: somebody runs it, or something changes
        lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,2,1")
        asked, reason = daemon.until_quiet()
        assert reason == "everything is up to date"
        assert of_sessions <= {name for names, first, _ in asked if first == "2024-03-01" for name in names}
    assert len(lake.table("gold.session_metrics")) == 3
    assert lake.stale() == {}


def test_what_follows_from_days_of_a_table_that_failed_waits(tmp_path):
    lakehouse = planned_only(tmp_path)
    for day in (1, 20):
        drop(lakehouse, f"2024-03-{day:02}")
    drop(lakehouse, "2024-03-05", "u,2024-01-01,DE,web,free", dataset="users")
    landed, at = lakehouse.zone.listings(), [date(2024, 3, day) for day in range(21)[1:]]

    def waiting(name, *days):
        found = lakehouse.planner.following({name: {at[day - 1] for day in days}}, landed)
        assert {one.source for one in found.values()} == {name}
        return {table: [day.day for day in sorted(one.days)] for table, one in found.items()}

    assert waiting("gold.session_metrics", 4) == {
        "gold.session_distribution": [4],
        "gold.daily_session_metrics": [4],
        "gold.segment_metrics": [4],
        "gold.anomalies": list(range(4, 21)),
    }
    # whoever is new on the 19th follows from all days before; a month and a week end
    assert waiting("silver.user_days", 10)["silver.user_first_days"] == list(range(10, 21))
    assert waiting("silver.user_days", 10)["gold.weekly_metrics"] == [10]
    assert waiting("silver.user_days", 11, 12)["gold.weekly_metrics"] == list(range(11, 18))
    assert waiting("silver.user_first_days", 18)["silver.user_first_days"] == [19, 20]
    assert waiting("bronze.interactions", 8)["silver.interactions"] == [5, 6, 7, 8]
    # everything goes by the first users, but nothing else that is written before them
    assert "silver.user_changes" in waiting("bronze.users", 5)
    assert waiting("bronze.users", 5)["gold.segment_performance"] == list(range(1, 21))
    assert "gold.daily_metrics" not in waiting("bronze.users", 5)


def test_a_day_without_a_file_gets_its_rows_and_a_warning(make_lake):
    lake = make_lake(("gold.daily_metrics", "silver.user_counts", "silver.users"))
    lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,1,1")
    lake.run()
    schedule = sensors.day_end_schedule(lake.lakehouse)

    def at(day):
        moment = datetime(2024, 3, day, lake.lakehouse.settings.expected_hour, tzinfo=UTC)
        tick = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=moment))
        return tick.run_requests or tick.skip_message

    assert at(2) == "2024-03-01 is landed or computed already"
    with daemon_of(lake.lakehouse) as daemon:
        [request] = at(4)  # the tick of the day before was missed, so two days have ended
        assert described(request)[1:] == ("2024-03-02", "2024-03-03")
        assert set(lake.lakehouse.tables) - set(described(request)[0]) == set(OF_USERS)
        assert daemon.execute(request).success
        key = dg.AssetCheckKey(dg.AssetKey(["bronze", "interactions"]), "file_delivered")
        found = daemon.instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
        passed = {record.partition: record.event.dagster_event.event_specific_data.passed for record in found}
        assert passed == {"2024-03-01": True, "2024-03-02": False, "2024-03-03": False}
        assert daemon.until_quiet() == ([], "everything is up to date")
    days = lake.by_day("gold.daily_metrics")
    assert [days[f"2024-03-0{day}"]["daily_active_users"] for day in (1, 2, 3)] == [1, 0, 0]
    assert days["2024-03-03"]["weekly_active_users"] == 1
    assert at(4) == "2024-03-03 is landed or computed already"


def test_nothing_ever_delivered_is_no_empty_day(tmp_path):
    schedule = sensors.day_end_schedule(planned_only(tmp_path))
    context = dg.build_schedule_context(scheduled_execution_time=datetime(2024, 3, 2, 6, tzinfo=UTC))
    assert schedule.evaluate_tick(context).skip_message == "no file has been landed yet"


def test_a_lake_that_nobody_delivers_to_is_not_filled_with_days_without_files(tmp_path):
    lakehouse = planned_only(tmp_path)
    drop(lakehouse, "2024-03-01")
    schedule = sensors.day_end_schedule(lakehouse)

    def at(day):
        moment = datetime.combine(day, datetime.min.time(), UTC).replace(hour=lakehouse.settings.expected_hour)
        tick = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=moment))
        return [described(request)[1:] for request in tick.run_requests or ()] or tick.skip_message

    assert at(date(2024, 4, 2)) == [("2024-03-02", "2024-04-01")]
    assert at(date(2024, 4, 3)) == (
        "nothing was delivered since 2024-03-01, more than 31 days ago; "
        "`lakehouse run --start 2024-03-02 --end 2024-04-02` computes these days without files"
    )


def test_with_markers_a_date_waits_for_its_own(tmp_path):
    lakehouse = planned_only(tmp_path, success_marker=True)
    marked = drop(lakehouse, "2024-03-01")
    drop(lakehouse, "2024-03-02")
    (marked.parent / "_SUCCESS").touch()
    with daemon_of(lakehouse) as daemon:
        assert [described(request)[1:] for request in daemon.tick().run_requests] == [("2024-03-01", "2024-03-01")]
        assert "2024-03-02 may still be written to" not in (daemon.tick().skip_message or "")


def test_nothing_that_lies_in_the_landing_zone_keeps_other_days_waiting(tmp_path):
    lakehouse = planned_only(tmp_path, start_date=date(2020, 1, 1))
    drop(lakehouse, "2024-03-01")
    base = lakehouse.zone.root / "interactions"
    for name in ("date=2026-13-40", "date=0000-00-00", "date=2999-01-01", "DATE=2024-03-05", "date=2024-3-5"):
        (base / name).mkdir()
        (base / name / "a.csv").write_text("no rows of ours")
    (base / "date=2024-03-06").write_text("a file")
    drop(lakehouse, "2019-12-31")  # before LAKEHOUSE_START_DATE
    (base / "date=2024-03-07").symlink_to(base / "date=2024-03-07")
    os.mkfifo(drop(lakehouse, "2024-03-08").parent / "pipe.csv")
    drop(lakehouse, "2024-03-09", name=os.fsdecode(b"\xff.csv"))
    build_definitions(lakehouse)  # so that the code location loads
    with daemon_of(lakehouse) as daemon:
        daemon.tick()
        assert [described(request)[1:] for request in daemon.tick().run_requests] == [("2024-03-01", "2024-03-06")]
        stands = {one.first.isoformat(): one.why for one in status(lakehouse, lambda: nullcontext(daemon.instance))}
    assert stands["2024-03-07"].endswith(
        "date=2024-03-07: can't be listed (Too many levels of symbolic links); change its permissions or remove it"
    )
    assert stands["2024-03-08"].endswith("pipe.csv: is a pipe or a device, not a file; remove it")
    assert stands["2024-03-09"].endswith("/\ufffd.csv: its name is not UTF-8; rename it")
    assert not {"2026-13-40", "2999-01-01", "2019-12-31"} & stands.keys()
    assert base / "date=2019-12-31" / "a.csv" in lakehouse.zone.strays()


def test_a_server_that_began_before_anything_was_landed_computes_a_file_of_any_day(tmp_path):
    lakehouse = planned_only(tmp_path)
    with daemon_of(lakehouse) as daemon:
        partitions = daily_partitions(lakehouse.settings)
        drop(lakehouse, "2003-05-06")
        assert daily_partitions(lakehouse.settings) == partitions
        daemon.tick()
        asked = [described(request)[1:] for request in daemon.tick().run_requests]
        assert asked == [("2003-05-06", "2003-05-06")]
        drop(lakehouse, "2003-05-03")  # earlier than any before: the days between are of the lake too
        daemon.tick()
        asked = [described(request)[1:] for request in daemon.tick().run_requests]
        assert asked == [("2003-05-03", "2003-05-06")]
    known = partitions.get_partition_keys()
    assert known[0] == "1999-12-29"  # rows landed on the first landing date may be of the days before
    assert known[-1] == f"{datetime.now(tz=UTC).date()}"


def test_days_that_the_lake_has_not_are_refused_in_one_sentence_and_never_made_up(tmp_path):
    lakehouse = planned_only(tmp_path)
    today = datetime.now(tz=UTC).date()

    def refused(first, last):
        with pytest.raises(RangeError) as error:
            lakehouse.planner.check_range(first, last)
        return str(error.value)

    day = date(2024, 3, 4)
    assert refused(day, day) == "no interactions are landed yet; land a file with `lakehouse land interactions FILE`"
    drop(lakehouse, "2024-03-04")
    drop(lakehouse, "2024-03-06")
    lakehouse.planner.check_range(day, date(2024, 3, 6))
    lakehouse.planner.check_range(date(2024, 3, 7), today - timedelta(1))  # over, and no file came
    assert refused(date(2016, 3, 1), day) == (
        "2016-03-01 is before 2024-03-04, the first day of what is landed; begin there, or land more"
    )
    assert refused(date(2024, 3, 8), date(2024, 3, 8)) == (
        "2024-03-08 is after 2024-03-06, the last day that is landed or computed; begin at 2024-03-07, so that no day "
        "is left out"
    )
    assert refused(date(2024, 3, 7), today) == (
        f"{today} has no file and is not over; end at {today - timedelta(1)}, or land its file"
    )
    with daemon_of(lakehouse) as daemon:  # the same from the UI, table by table, before anything is read
        for partition, why in (
            ("2016-03-01", "2016-03-01 is before 2024-03-04"),
            (f"{today}", f"{today} is after 2024-03-06"),
        ):
            for table in ("bronze.interactions", "gold.daily_metrics"):
                run = daemon.job.execute_in_process(
                    instance=daemon.instance,
                    asset_selection=[dg.AssetKey(table.split("."))],
                    partition_key=partition,
                    raise_on_error=False,
                ).dagster_run
                assert failure_of(daemon.instance, run).reason.startswith(why)
    assert lakehouse.catalog.names() == []


def test_files_divided_by_another_zone_are_divided_again_before_anything_is_planned(tmp_path):
    lakehouse, source = planned_only(tmp_path), tmp_path / "events.csv"
    source.write_text(f"{','.join(DATASETS['interactions'])}\nu,2024-03-01 20:00:00,edit,p,1,1\n")
    utc = ZoneInfo("UTC")
    split(lakehouse.zone, source, {}, input_zone=utc, reporting_zone=utc)
    kolkata = planned_only(tmp_path, reporting_timezone="Asia/Kolkata")
    with daemon_of(kolkata) as daemon:
        (request,) = daemon.tick().run_requests
        assert described(request) == (["bronze.interactions"], "2024-03-01", "2024-03-01")
        assert kolkata.divide_again(print) == {date(2024, 3, 1), date(2024, 3, 2)}  # as its run does first
        daemon.tick()
        (request,) = daemon.tick().run_requests
        assert described(request)[1:] == ("2024-03-02", "2024-03-02")


class Webhook(BaseHTTPRequestHandler):
    posted: ClassVar[list] = []

    def do_POST(self):
        self.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def webhook():
    """The address of a webhook that keeps what it is told in `Webhook.posted`."""
    Webhook.posted = []
    server = HTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/services/canary-7f3a"
    server.shutdown()
    server.server_close()


def test_settings_that_change_under_a_code_server_are_noticed_and_nothing_is_run(tmp_path, monkeypatch, webhook):
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    monkeypatch.setenv("LAKEHOUSE_WEBHOOK_URL", webhook)
    file = tmp_path / "lakehouse.toml"
    file.write_text("late_days = 3\n")
    lakehouse = Lakehouse()
    drop(lakehouse, "2024-03-01")
    changed = "settings changed (late_days, allowed_actions): reload the definitions; nothing runs until then"
    with daemon_of(lakehouse) as daemon:
        daemon.tick()
        file.write_text('late_days = 2\nallowed_actions = ["edit"]\n')
        assert [(daemon.tick().run_requests, daemon.tick().skip_message) for _ in range(2)] == [([], changed)] * 2
        file.write_text("late_days = \n")
        broken = daemon.tick()
        assert broken.run_requests == []
        assert broken.skip_message.startswith(f"{file} can't be read as TOML: Invalid value")
        assert broken.skip_message.endswith("; nothing runs until you correct that")
        context = dg.build_schedule_context(scheduled_execution_time=datetime(2024, 3, 4, 6, tzinfo=UTC))
        assert sensors.day_end_schedule(lakehouse).evaluate_tick(context).skip_message == broken.skip_message
        file.write_text("late_days = 3\n")
        assert len(daemon.tick().run_requests) == 1
        file.write_text("late_days = 2\n")
        assert len(Daemon(Lakehouse(), daemon.instance).tick(daemon.cursor).run_requests) == 1  # as after a reload
    told = [(message["text"], message["reasons"]) for message in Webhook.posted]
    assert told == [(f"lakehouse sensor landing: {why}", [why]) for why in (changed, broken.skip_message)]


def test_runs_that_go_by_other_settings_than_the_sensor_are_asked_for_once(make_lake):
    lake = make_lake(("silver.rejected_interactions",), allowed_actions=("edit",))
    lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,1,1")
    settings = lake.lakehouse.settings.model_copy(update={"allowed_actions": ("edit", "share")})
    with daemon_of(Lakehouse(settings)) as daemon:
        daemon.job = build_definitions(lake.lakehouse).resolve_job_def(JOB)  # a process that read the settings later
        asked, reason = daemon.until_quiet()
        assert len(asked) == 1
        [run] = daemon.instance.get_runs()
        assert reason == (
            f"run {run.run_id} computed silver.rejected_interactions 2024-03-01 with other settings or code than "
            "this code server has; reload the definitions, or run `lakehouse run`"
        )
        # what another run has written meanwhile may be computed again, and so may what a repair took the stamp from
        lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,1,1", "v,2024-03-01 10:00:00,edit,p,1,1")
        lake.run()
        lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,1,1")
        assert len(daemon.until_quiet()[0]) == 1
        table = lake.lakehouse.catalog.load("silver.rejected_interactions")
        with table.transaction() as transaction:
            forget_days(transaction, table, [date(2024, 3, 1)])
        assert len(daemon.until_quiet()[0]) == 1


def test_a_sensor_that_fails_is_told_to_the_webhook_once(tmp_path, webhook):
    lakehouse = planned_only(tmp_path, webhook_url=webhook)
    drop(lakehouse, "2024-03-01")
    with daemon_of(lakehouse) as daemon:
        (tmp_path / "catalog.db").write_bytes(b"no database" * 100)
        for _ in range(2):
            with pytest.raises(Exception, match="file is not a database"):
                daemon.tick()
        [told] = Webhook.posted
        assert told["text"].startswith("lakehouse sensor landing: ")
        assert "file is not a database" in told["text"]
        (tmp_path / "catalog.db").unlink()
        daemon.tick()
        assert len(daemon.tick().run_requests) == 1
        refused = drop(lakehouse, "2024-03-02", name="b.csv")
        refused.write_bytes(b"")
        for _ in range(3):
            daemon.tick()
    assert [message["reasons"] for message in Webhook.posted[1:]] == [
        [f"{refused}: is empty (0 bytes); a day without rows needs at least the header"]
    ]


def test_a_damaged_table_keeps_nothing_waiting_that_does_not_follow_from_it(tmp_path):
    lakehouse = planned_only(tmp_path, tables=("gold.daily_metrics", "silver.rejected_interactions"))
    drop(lakehouse, "2024-03-01")
    table = lakehouse.catalog.ensure("silver.rejected_interactions", {"landing_date": "date"}, "landing_date")
    metadata = Path(lakehouse.catalog.iceberg.load_table(table.name()).metadata_location.removeprefix("file://"))
    metadata.write_text(metadata.read_text()[:100])
    with daemon_of(lakehouse) as daemon:
        daemon.tick()
        [request] = daemon.tick().run_requests
        assert described(request)[0] == ["bronze.interactions", "silver.interaction_routing"]
        run = dg.DagsterRun(
            JOB, tags={**request.tags, RUN_KEY_TAG: request.run_key}, status=dg.DagsterRunStatus.FAILURE
        )
        daemon.instance.run_storage.add_run(run)
        told = daemon.tick().skip_message
    assert f"silver.rejected_interactions: {metadata} " in told
    assert "`lakehouse maintain --repair` takes out what can't be read" in told


def test_a_failed_run_is_told_to_the_webhook_with_its_reason(tmp_path, webhook):
    lakehouse = planned_only(tmp_path, webhook_url=webhook)
    assert "canary" not in repr(lakehouse.settings)
    bad = drop(lakehouse, "2024-03-01", "\x00")
    bad.write_bytes(b"")
    with daemon_of(lakehouse) as daemon:

        def failed(**tags):
            done = daemon.job.execute_in_process(
                instance=daemon.instance,
                asset_selection=[dg.AssetKey(["bronze", "interactions"])],
                tags=tags,
                raise_on_error=False,
            )
            context = dg.build_run_status_sensor_context(
                "run_failures",
                dagster_event=done.get_run_failure_event(),
                dagster_instance=daemon.instance,
                dagster_run=done.dagster_run,
            ).for_run_failure()
            sensors.failure_sensor(lakehouse)(context)
            return done

        lake_run = failed(**{PARTITION_NAME_TAG: "2024-03-01"})
        logged = "".join(str(entry) for entry in daemon.instance.all_logs(lake_run.run_id))
        today = datetime.now(tz=UTC).date()
        tomorrow = str(today + timedelta(1))
        for tags in (
            {PARTITION_NAME_TAG: tomorrow},
            run_tags(Work((), today, today + timedelta(1))),
            {},
        ):
            failed(**tags)
    reason = f"{bad}: is empty (0 bytes); a day without rows needs at least the header"
    assert Webhook.posted[:1] == [
        {
            "text": f"lakehouse run {lake_run.run_id[:8]} failed for 2024-03-01: {reason}",
            "run_id": lake_run.run_id,
            "days": "2024-03-01",
            "tables": ["bronze.interactions"],
            "failed": {"bronze.interactions": reason},
            "reason": reason,
        }
    ]
    assert "canary" not in logged
    there_are = f"1999-12-29 … {today} (today in UTC)"
    outside = f"is outside the days that can be computed, {there_are}"
    assert [
        (told["text"].partition(" failed")[0][22:], told["days"], told["reason"]) for told in Webhook.posted[1:]
    ] == [
        ("", tomorrow, f"{tomorrow} {outside}"),
        ("", f"{today} … {tomorrow}", f"{today} … {tomorrow} {outside}"),
        (
            " of job lakehouse",
            "no days",
            f"the run names no days; choose some of {there_are}",
        ),
    ]


def test_a_webhook_that_is_no_web_address_is_refused_without_showing_it():
    with pytest.raises(SettingsError) as refused:
        load_settings(webhook_url="file:///etc/canary-7f3a")
    assert str(refused.value).startswith("LAKEHOUSE_WEBHOOK_URL can't be used")
    assert "canary" not in str(refused.value)


def test_a_run_whose_process_is_gone_is_noticed(tmp_path):
    lakehouse = planned_only(tmp_path)
    with daemon_of(lakehouse) as daemon:
        launcher = daemon.instance.run_launcher
        assert isinstance(launcher, WatchingRunLauncher)

        def health(**tags):
            run = daemon.instance.create_run_for_job(daemon.job, tags=tags, status=dg.DagsterRunStatus.STARTED)
            return launcher.check_run_worker_health(run).status

        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        assert health(**{PROCESS_TAG: str(os.getpid())}) == WorkerStatus.RUNNING
        assert health(**{PROCESS_TAG: str(gone.pid)}) == WorkerStatus.FAILED
        assert health() == WorkerStatus.NOT_FOUND
        # another container may have a process of the same number, or none
        assert health(**{PROCESS_TAG: str(gone.pid), HOST_TAG: "elsewhere"}) == WorkerStatus.RUNNING
        assert health(**{PROCESS_TAG: str(gone.pid), GRPC_INFO_TAG: '{"host": "dagster-code"}'}) == WorkerStatus.RUNNING
        assert health(**process_tags()) == WorkerStatus.RUNNING


def test_who_starts_on_a_machine_ends_the_runs_that_died_on_it(tmp_path):
    lakehouse = planned_only(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with daemon_of(lakehouse) as daemon:
        here, elsewhere = (
            daemon.instance.create_run_for_job(
                daemon.job,
                tags={PROCESS_TAG: str(gone.pid), GRPC_INFO_TAG: json.dumps({"host": host})},
                status=dg.DagsterRunStatus.STARTED,
            ).run_id
            for host in (platform.node(), "elsewhere")
        )
        with terminal_instance(lakehouse.settings) as instance:
            found = {run.run_id: run.status for run in instance.get_runs()}
        assert found == {here: dg.DagsterRunStatus.FAILURE, elsewhere: dg.DagsterRunStatus.STARTED}


def test_whoever_opens_an_empty_lakehouse_at_once_finds_it_whole(tmp_path):
    settings, together = load_settings(home=tmp_path / "home"), threading.Barrier(8)

    def opened(_: int) -> tuple[list[str], int]:
        together.wait(60)
        names = Catalog(settings).names()
        with terminal_instance(settings) as instance:
            return names, len(instance.get_runs())

    with ThreadPoolExecutor(8) as beside:
        assert list(beside.map(opened, range(8))) == [([], 0)] * 8
