"""A team's own package on top of this one: a table by its declaration, and plain assets that read and store tables."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median_low

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
from dagster_pyspark import LazyPySparkResource

from lakehouse_assets.assets.table import declare
from lakehouse_assets.calendar import Days
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.own_assets import OwnAssetError, read_table, store
from lakehouse_assets.settings import SettingsError, load_settings
from lakehouse_assets.storage.query import connect
from lakehouse_assets_tests.conftest import Lake

PACKAGE = Path(__file__).parents[1] / "examples" / "own_package"
TABLE = "gold.actions_per_user"
# actions of users on three days; nobody is there on the second
ACTIONS = {"2024-03-01": [1, 2, 3, 9], "2024-03-02": [], "2024-03-03": [4, 5]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the package's table, made by the command in a process that knows the package."""
    folder = tmp_path_factory.mktemp("own")
    for day, of_users in ACTIONS.items():
        rows = [
            f"u{user},{day} 10:00:{second:02},edit,p,1,1"
            for user, many in enumerate(of_users)
            for second in range(many)
        ]
        file = folder / "landing" / "interactions" / f"date={day}" / "a.csv"
        file.parent.mkdir(parents=True)
        file.write_text("\n".join(["user_id,timestamp,action_type,page_id,duration_ms,app_version", *rows, ""]))
    done = in_package(folder, "-m", "lakehouse_assets.cli", "run")
    assert done.returncode == 0, done.stderr
    return folder


def in_package(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of a project that has the package."""
    environment = {
        **os.environ,
        "LAKEHOUSE_HOME": str(home),
        "LAKEHOUSE_TABLES": f"{TABLE},gold.daily_metrics",
        "LAKEHOUSE_TABLE_MODULES": "own_metrics.actions_per_user",
        "PYTHONPATH": os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=home, capture_output=True, text=True, check=False
    )


def lakehouse_at(home: Path) -> Lakehouse:
    return Lakehouse(load_settings(home=home))


_LOOK = """
import json
from lakehouse_assets import cli
cli.main(["status", "--json"])
from own_metrics.definitions import defs
print(json.dumps([spec.key.to_user_string() for spec in defs().resolve_all_asset_specs()]))
"""


def test_a_table_of_ones_own_is_planned_checked_and_published_as_ours(home: Path) -> None:
    rows = connect(lakehouse_at(home).catalog, [TABLE]).table(TABLE).order("date").fetchall()
    assert rows == [
        (date.fromisoformat(day), len(many), median_low(many) if many else None, max(many, default=None))
        for day, many in ACTIONS.items()
    ]
    done = in_package(home, "-c", _LOOK)
    status, assets = map(json.loads, done.stdout.splitlines())
    assert [one["state"] for one in status] == ["up to date"]
    assert {"gold/actions_per_user", "analysis/weekdays"} <= set(assets)
    page = (home / "dashboard.html").read_text(encoding="utf-8")
    content = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)[0])
    [chart] = [chart for chart in content["charts"] if chart["title"] == "Actions a user"]
    assert [row for row in chart["rows"] if row[1] == "median"] == [
        [day, "median", median_low(many) if many else None] for day, many in ACTIONS.items()
    ]


def test_plain_assets_read_tables_and_store_their_own(home: Path) -> None:
    done = in_package(
        home, "-m", "dagster", "asset", "materialize", "-m", "own_metrics.definitions", "--select", "analysis/weekdays*"
    )
    assert done.returncode == 0, done.stderr
    lakehouse = lakehouse_at(home)
    stored = read_table(lakehouse, "analysis.weekdays", None, pa.Table).to_pylist()
    assert [row["weekday"] for row in stored] == [5, 6, 7]
    assert [row["mean_active_users"] for row in stored] == [4, 0, 2]
    assert [row["share_of_actions"] for row in stored] == [pytest.approx(15 / 24), 0, pytest.approx(9 / 24)]


def test_any_asset_can_ask_for_the_session(make_lake: Callable[..., Lake]) -> None:
    @dg.asset
    def of_the_session(spark: LazyPySparkResource) -> int:
        return spark.spark_session.range(7).count()

    lake = make_lake()
    resources = build_definitions(lake.lakehouse).resources
    assert set(resources or {}) == {"iceberg", "spark"}
    done = dg.materialize([of_the_session], resources=resources)
    assert done.output_for_node("of_the_session") == 7


def test_an_own_asset_replaces_its_days_alone(home: Path) -> None:
    lakehouse = lakehouse_at(home)
    rows = pa.table({"date": [date(2024, 3, day) for day in (1, 2, 3)], "value": [1, 2, 3]})
    store(lakehouse, "analysis.daily", rows, Days(date(2024, 3, 1), date(2024, 3, 3)), "date")
    one = pa.table({"date": [date(2024, 3, 2)], "value": [20], "note": ["new"]})
    store(lakehouse, "analysis.daily", one, Days(date(2024, 3, 2), date(2024, 3, 2)), "date")
    found = read_table(lakehouse, "analysis.daily", None, duckdb.DuckDBPyRelation).order("date").fetchall()
    assert [row[1:] for row in found] == [(1, None), (20, "new"), (3, None)]
    read = read_table(lakehouse, "gold.daily_metrics", Days(date(2024, 3, 3), date(2024, 3, 3)), pa.Table)
    assert read["daily_active_users"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("name", "rows", "days", "words"),
    [
        ("alone", pa.table({"a": [1]}), None, "give it a key of two parts"),
        ("a.b", [1], None, "can't store list; return pyspark.sql.DataFrame"),
        ("a.b", pa.table({"a": [1]}), Days(date(2024, 3, 1), date(2024, 3, 1)), '{"partition_expr": "date"}'),
    ],
)
def test_what_cannot_be_stored_is_one_sentence(
    home: Path, name: str, rows: object, days: Days | None, words: str
) -> None:
    with pytest.raises(OwnAssetError) as refused:
        store(lakehouse_at(home), name, rows, days, None)
    assert words in str(refused.value)


def test_a_module_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(SettingsError, match="LAKEHOUSE_TABLE_MODULES names nowhere, which can't be imported"):
        declare(load_settings(table_modules=("nowhere",)))
