"""What Dagster shows and does: definitions, metadata of materializations, checks that warn and checks that stop."""

import base64
import json
import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.asset_backfill import AssetBackfillData

from lakehouse_assets.assets.table import declare
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing import deliveries
from lakehouse_assets.orchestration import sensors
from lakehouse_assets.orchestration.checks import segments_add_up, unusual_days
from lakehouse_assets.orchestration.failures import failure_of
from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.orchestration.runs import JOB
from lakehouse_assets.settings import load_settings
from lakehouse_assets.storage.s3 import StorageError
from lakehouse_assets.storage.warehouse import Audit

ROOT = Path(__file__).parents[1]


def instance_of(lake):
    return dg.DagsterInstance.from_config(str(lake.lakehouse.settings.dagster_path))


def test_definitions_load_as_the_code_server_loads_them(tmp_path):
    """`dg check defs` runs `dagster definitions validate`; both find them by pyproject.toml."""
    program = Path(sys.executable).with_name("dg")
    assert program.exists(), f"{program} is missing: this environment is older than its lock file; run `make setup`"

    def dg_says(*arguments):
        environment = os.environ | {"LAKEHOUSE_HOME": str(tmp_path / "home"), "DAGSTER_HOME": str(tmp_path)}
        command = [sys.executable, str(program), *arguments]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "All definitions loaded successfully" in dg_says("check", "defs")
    listed = json.loads(dg_says("list", "defs", "--json"))
    graph = build_definitions(Lakehouse(load_settings(home=tmp_path))).resolve_asset_graph()
    assert {asset["asset_key"] for asset in listed["assets"]} == {
        k.to_user_string() for k in graph.get_all_asset_keys()
    }
    assert not (tmp_path / "home").exists()


def test_three_days_chosen_in_the_asset_graph_are_three_days_of_each_table_in_one_run(tmp_path):
    graph = build_definitions(Lakehouse(load_settings(home=tmp_path))).resolve_asset_graph()
    tables = [key for key in graph.get_all_asset_keys() if graph.get(key).is_partitioned]
    days = ["2024-02-28", "2024-02-29", "2024-03-01"]
    with dg.DagsterInstance.ephemeral() as instance:
        backfill = AssetBackfillData.from_asset_partitions(graph, days, tables, instance, time.time(), False)
    assert len(tables) == len(declare(load_settings()))
    for key in tables:
        chosen = backfill.target_subset.get_asset_subset(key)
        assert chosen
        assert list(chosen.subset_value.get_partition_keys()) == days, key
        # what would keep a table out of the run of those it is computed from
        assert not graph.get(key).has_self_dependency
        assert graph.get(key).backfill_policy == dg.BackfillPolicy.single_run()
    described = graph.get(dg.AssetKey(["gold", "daily_metrics"])).description
    assert described
    assert described.endswith("A day is computed from silver.user_days from day -29 to the day.")


def test_definitions_load_while_the_store_and_the_catalog_are_down(tmp_path):
    """Whoever then runs something is told; and what can't be loaded can't tell anybody."""
    down = "http://127.0.0.1:9"
    places = {"landing": "s3://bucket/landing", "warehouse": "s3://bucket/warehouse", "catalog_uri": down}
    lakehouse = Lakehouse(load_settings(home=tmp_path, s3_endpoint=down, **places))
    definitions = build_definitions(lakehouse)
    assert definitions.resolve_job_def("lakehouse")
    dg.Definitions.validate_loadable(definitions)
    with pytest.raises(StorageError), dg.DagsterInstance.ephemeral() as instance:
        sensors.landing_sensor(lakehouse).evaluate_tick(dg.build_sensor_context(instance=instance))


def test_days_show_their_rows_and_an_open_window_warns_until_it_is_complete(make_lake):
    lake = make_lake(("silver.interaction_counts", "gold.daily_metrics"))
    lake.rows("2024-03-01", "w,2024-03-01 10:00:00,edit,p,1,1", "w,2024-03-01 10:00:00,fly,p,1,1")
    lake.rows("2024-03-02", "u,2024-03-02 10:00:00,edit,p,1,1", "v,2024-03-02 10:00:00,edit,p,1,1")
    lake.runner.run_range(date(2024, 3, 2), date(2024, 3, 2))
    check = dg.AssetCheckKey(dg.AssetKey(["gold", "daily_metrics"]), "windows_complete")

    def latest():
        with instance_of(lake) as instance:
            history = instance.event_log_storage.get_asset_check_execution_history(check, limit=10)
        newest = max((r for r in history if r.partition == "2024-03-02"), key=lambda record: record.id)
        return newest.event.dagster_event.event_specific_data

    first = latest()
    assert (first.passed, first.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert first.metadata["detail"].value == "bronze.interactions 2024-03-01: not computed yet"
    lake.run()
    assert latest().passed

    with instance_of(lake) as instance:

        def metadata(table, day):
            event = instance.get_latest_data_version_record(dg.AssetKey(table.split(".")), partition_key=day)
            return event.asset_materialization.metadata

        shown = {day: metadata("silver.interactions", day) for day in ("2024-03-01", "2024-03-02")}
        gold = metadata("gold.daily_metrics", "2024-03-02")
        rejected = metadata("silver.rejected_interactions", "2024-03-01")
        counts = metadata("silver.interaction_counts", "2024-03-02")  # the run went over the day that had been right
    assert {day: metadata["dagster/row_count"].value for day, metadata in shown.items()} == {
        "2024-03-01": 1,
        "2024-03-02": 2,
    }
    assert "dagster/column_schema" in shown["2024-03-02"]
    assert {"snapshot_id", "range", "range_rows", "range_files", "range_bytes"} <= shown["2024-03-01"].keys()
    assert records(gold["changes"]) == [{"day": "2024-03-02", "rows_before": 1, "rows_after": 1, "rows_that_differ": 1}]
    assert [(row["date"], row["weekly_active_users"]) for row in records(gold["last_days"])] == [
        ("2024-03-02", 3),
        ("2024-03-01", 1),
    ]
    image = base64.b64decode(gold["plot"].value.rpartition("base64,")[2].rstrip(")")).decode()
    assert image.startswith("<svg")
    assert "MAU (30 days)" in image
    assert [(row["reason"], row["rejected_rows"]) for row in records(rejected["rejected_by_reason"])] == [
        ("unknown_action", 1)
    ]
    assert [row["action_type"] for row in records(rejected["rejected_samples"])] == ["fly"]
    assert (
        records(counts["reconciliation"])[1].items()
        >= {
            "date": "2024-03-01",
            "delivered_rows": 2,
            "rejected_rows": 1,
            "accepted_rows": 1,
            "unexplained_delivered": 0,
            "unexplained_arrived": 0,
        }.items()
    )


def records(table):
    return [record.data for record in table.records]


def test_a_law_that_breaks_as_an_input_is_not_computed_names_the_input(make_lake):
    lake = make_lake()
    for day in ("2024-03-01", "2024-03-02"):
        lake.rows(day, f"u,{day} 10:00:00,edit,p,1,1")
    job = build_definitions(lake.lakehouse).resolve_job_def(JOB)
    tables = ("bronze.interactions", "silver.rejected_interactions", "silver.interactions", "silver.interaction_counts")
    with terminal_instance(lake.lakehouse.settings) as instance:
        run = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(table.split(".")) for table in tables],
            partition_key="2024-03-01",
            raise_on_error=False,
        ).dagster_run
        reason = failure_of(instance, run).reason
    assert reason.startswith(
        "silver.interaction_counts 2024-03-01 was not published: it depends on days that are not computed yet "
        "(silver.interaction_routing 2024-03-01: not computed yet). `lakehouse run` computes them first. What failed: "
    ), reason
    assert "rows_reconcile" in reason
    assert lake.table("silver.interaction_counts") == []


def test_every_gold_table_has_a_chart():
    tables = declare(load_settings())
    without = {name for name, table in tables.items() if table.layer == "gold" and not table.charts}
    assert without == {"gold.session_metrics"}  # a row a session; the page reads what is counted of them


def test_a_failed_blocking_check_stops_what_comes_after(make_lake, monkeypatch):
    lake = make_lake()
    lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,1,1")
    day = date(2024, 3, 1)
    warehouse = lake.lakehouse.warehouse
    audit = warehouse.audit

    def touched(name, first, last):
        found = audit(name, first, last)
        breaches = {"duration_within_limits": {day: 1}} if name == "silver.interactions" else found.breaches
        return Audit(found.rows, breaches)

    monkeypatch.setattr(warehouse, "audit", touched)
    with pytest.raises(Exception, match="duration_within_limits"):
        lake.run()
    assert lake.table("silver.interactions") != []
    assert (
        lake.table("silver.user_days") == lake.table("gold.session_metrics") == lake.table("gold.daily_metrics") == []
    )


def test_rows_are_the_same_whether_spark_workers_or_this_process_parse_them(make_lake, monkeypatch):
    lake = make_lake()
    zone, engine, days = lake.lakehouse.zone, lake.lakehouse.engine, [date(2024, 2, 29), date(2024, 3, 1)]
    for day in days:
        lake.rows(day.isoformat(), f'a,{day} 10:00:00,edit,"x,""y""",1,1', f"b,{day} 11:00:00,edit", "c,no,edit,p,1,1")
    files = {day: [zone.inspect("interactions", file) for file in zone.files("interactions", day)] for day in days}
    columns = list(files[days[0]][0].header)

    def parsed():
        frame = deliveries.read_deliveries(engine, files, columns, datetime(2024, 3, 2, tzinfo=UTC), 1_000_000)
        return sorted(map(str, frame.collect()))

    here = parsed()
    monkeypatch.setattr(deliveries, "PARSED_HERE_BYTES", 0)
    assert len(here) == 6
    assert parsed() == here


def test_segments_that_do_not_add_up_and_unusual_days_are_told(make_lake, spark):
    lake, day = make_lake(tables=("gold.segment_metrics", "gold.anomalies")), date(2024, 3, 1)
    lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,1,1", "v,2024-03-01 10:00:00,edit,p,1,1")
    lake.run()
    lakehouse, warehouse = lake.lakehouse, lake.lakehouse.warehouse
    assert segments_add_up(lakehouse, day, day) == unusual_days(lakehouse, day, day) == {}

    def overwrite(name, **changed):
        first, *others = lake.table(name)
        rows = [first | changed, *others]
        frame = spark.createDataFrame(rows, lakehouse.tables[name].spark_schema)
        warehouse.publish(warehouse.begin(name, frame, day, day, warehouse.base(name, {})), {})

    overwrite("gold.segment_metrics", total_actions=1)
    assert segments_add_up(lakehouse, day, day)[day].detail.startswith("2 accepted, [1, 2, 2, 2] in segments, users [")
    overwrite("gold.segment_metrics", total_actions=2, monthly_active_users_30d=3)  # a user of several versions
    assert segments_add_up(lakehouse, day, day) == {}
    overwrite("gold.segment_metrics", segment="device_type", value="web", total_actions=0)
    assert segments_add_up(lakehouse, day, day)[day].detail.startswith("2 accepted, [2, 2, 2] in segments, users [(")
    judged = {"expected_value": 1.0, "lower_bound": 0.0, "upper_bound": 3.5, "deviation": 2.0, "is_anomaly": True}
    overwrite("gold.anomalies", value=9.0, **judged)
    assert unusual_days(lakehouse, day, day)[day].detail == "avg_actions_per_session is 9, expected 0 … 3.5"
