"""A real `lakehouse dev`, asked through GraphQL as its pages ask it."""

import json
from collections.abc import Callable, Iterator
from datetime import date

import pytest

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.calendar import days_between
from lakehouse_assets.orchestration.dev_output import told_of
from lakehouse_assets.settings import load_settings
from lakehouse_assets.storage.catalog import Catalog
from lakehouse_assets_tests.conftest import Lake
from lakehouse_assets_tests.dev_server import ENDED, LOCATION, Server, serving, wait_for

TABLE = "silver.rejected_interactions"
UP_TO_DATE = "everything is up to date"
CHECKS = """
query ($table: AssetKeyInput!) {
  assetNodeOrError(assetKey: $table) {
    ... on AssetNode {
      assetChecksOrError {
        ... on AssetChecks { checks { name description executionForLatestMaterialization { status runId } } }
      }
    }
  }
}
"""
RESOURCE = """
query ($resource: ResourceSelector!) {
  topLevelResourceDetailsOrError(resourceSelector: $resource) {
    ... on ResourceDetails { description resourceType configuredValues { key value } }
  }
}
"""
ASSETS = """
query { assetNodes { assetKey { path } isExecutable opVersion metadataEntries { __typename label } } }
"""
EVALUATIONS = """
query ($table: AssetKeyInput!, $check: String!) {
  assetCheckExecutions(assetKey: $table, checkName: $check, limit: 20) {
    runId status evaluation { partition success metadataEntries { label ... on IntMetadataEntry { intValue } } }
  }
}
"""


@pytest.fixture(scope="module")
def server(make_lake: Callable[..., Lake]) -> Iterator[Server]:
    """A server on a lake of two tables, whose two days are computed; a tick takes 5 s, so there are few."""
    lake = make_lake((TABLE,))
    for day in ("2024-03-01", "2024-03-02"):
        lake.rows(day, f"u,{day} 10:00:00,fly,p,1,1")
    lake.run()
    home = lake.lakehouse.settings.home_path
    file = home / "lakehouse.toml"
    try:
        file.write_text(f'tables = ["{TABLE}"]\n')
        with serving(home) as server:
            yield server
    finally:
        file.unlink()


def test_a_person_sees_when_the_pages_are_there_and_runs_and_the_rest_is_in_a_log(server):
    said, log = server.home.parent / "dev.log", server.home / "dagster" / "dev.log"
    wanted = [
        f"Dagster starts for the lakehouse in {server.home}; all that it logs is in {log}",
        f"ready: http://127.0.0.1:{server.port}; landed files are computed by themselves. Ctrl-C ends it",
    ]
    wait_for(lambda: said.read_text().splitlines() == wanted, f"these lines: {wanted}")
    assert "dagster.daemon" in log.read_text()
    run = "6dd1c88d-6330-46a6-bff4-f76e768660dc"
    logged = [
        "\x1b[32m2026-11-26 15:17:31 +0000\x1b[0m - dagster.daemon.SensorDaemon - \x1b[34mERROR\x1b[0m - no such day\n",
        f"2026-11-26 15:17:32 +0000 - dagster - DEBUG - tables - {run} - 7 - RUN_START - Started execution\n",
        f"2026-11-26 15:17:33 +0000 - dagster - ERROR - tables - {run} - STEP_FAILURE - Execution of step failed.\n",
        "lakehouse_assets.errors.LakehouseError: a sentence\n",
        f'2026-11-26 15:17:34 +0000 - dagster - ERROR - tables - {run} - 7 - RUN_FAILURE - Execution of "tables"\n',
    ]
    assert list(told_of(iter(logged), "http://x")) == [
        "15:17:31 dagster.daemon.SensorDaemon: no such day",
        f"15:17:32 run 6dd1c88d of tables has started: http://x/runs/{run}",
        f"15:17:34 run 6dd1c88d of tables has failed: http://x/runs/{run}",
    ]


def test_the_pages_show_where_tables_are_which_code_makes_them_and_what_can_be_materialized(server):
    found = server.ask(RESOURCE, resource={**LOCATION, "resourceName": "iceberg"})["topLevelResourceDetailsOrError"]
    assert found["resourceType"] == "lakehouse_assets.resources.IcebergTables"
    assert found["description"].startswith("Reads and publishes the lakehouse's Iceberg tables")
    assert {one["key"]: json.loads(one["value"]) for one in found["configuredValues"]} == {
        "warehouse": str(server.home / "warehouse"),
        "landing": str(server.home / "landing"),
        "catalog": str(server.home / "catalog.db"),
        "s3_endpoint": "",
    }
    assets = server.ask(ASSETS)["assetNodes"]
    assert all(asset["opVersion"] for asset in assets)
    # "Materialize all" takes what can be materialized: tables and the dashboard, no maintenance and no profiles
    materializable = {".".join(asset["assetKey"]["path"]) for asset in assets if asset["isExecutable"]}
    assert materializable == {"bronze.interactions", "silver.rejected_interactions", "reports.dashboard"}
    for asset in assets:
        labels = {entry["label"] for entry in asset["metadataEntries"]}
        assert ("dagster/code_references" in labels) == asset["isExecutable"]


def test_checks_executed_without_days_judge_every_computed_day(server):
    table = "bronze.interactions"
    path = {"path": table.split(".")}
    checks = server.ask(CHECKS, table=path)["assetNodeOrError"]["assetChecksOrError"]["checks"]
    assert all(check["description"].endswith(". Without chosen days it judges every computed day.") for check in checks)
    names = [check["name"] for check in checks]
    assert names
    run = server.launch(checks=[(table, name) for name in names])  # what the button "Execute all" sends
    assert run["status"] == "SUCCESS"
    for name in names:
        found = server.ask(EVALUATIONS, table=path, check=name)["assetCheckExecutions"]
        ours = [one for one in found if one["runId"] == run["runId"]]
        assert {one["status"] for one in ours} == {"SUCCEEDED"}
        assert {one["evaluation"]["partition"] for one in ours} == {"2024-03-01", "2024-03-02", None}


def test_days_chosen_in_the_asset_graph_are_one_run_over_these_days(server):
    days = ["2024-03-01", "2024-03-02"]
    [run] = server.backfill(["bronze.interactions", TABLE], days)
    assert run["status"] == "SUCCESS"
    assert [run["tags"][f"dagster/asset_partition_range_{end}"] for end in ("start", "end")] == days


def test_a_day_that_the_lake_has_not_fails_and_leaves_nothing(server):
    run = server.launch(assets=["bronze.interactions"], tags={"dagster/partition": "2016-03-01"})
    assert run["status"] == "FAILURE"
    assert computed(server) == [date(2024, 3, 1), date(2024, 3, 2)]


def test_a_folder_of_no_date_stops_neither_ticks_nor_the_reload(server):
    folder = server.home / "landing" / "interactions" / "date=2026-13-40"
    folder.mkdir()
    (folder / "a.csv").write_text("no rows of ours")
    assert server.next_tick()["skipReason"] == UP_TO_DATE
    assert server.reload() == ""


def test_a_file_earlier_than_any_before_is_computed_with_the_days_between(server):
    folder = server.home / "landing" / "interactions" / "date=2024-01-25"  # the server began with March
    folder.mkdir()
    (folder / "a.csv").write_text(f"{','.join(DATASETS['interactions'])}\nu,2024-01-25 10:00:00,fly,p,1,1\n")
    days = days_between(date(2024, 1, 25), date(2024, 3, 2))
    wait_for(
        lambda: computed(server) == days and all(run["status"] in ENDED for run in server.runs()), "the earlier days"
    )


def computed(server: Server) -> list[date]:
    return sorted(Catalog(load_settings(home=server.home)).stamps(TABLE))


def test_settings_changed_on_disk_stop_the_sensor_until_the_definitions_are_loaded_again(server):
    before = server.runs()
    with (server.home / "lakehouse.toml").open("a") as file:
        file.write('allowed_actions = ["edit", "fly"]\n')
    assert server.next_tick()["skipReason"] == (
        "settings changed (allowed_actions): reload the definitions; nothing runs until then"
    )
    assert server.runs() == before
    assert server.reload() == ""
    # the tick may have begun as soon as the definitions were loaded, before the button had its answer
    assert server.ended(wait_for(lambda: server.runs()[: -len(before)], "a run")[-1]["runId"])["status"] == "SUCCESS"
