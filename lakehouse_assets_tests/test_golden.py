"""Golden cases: folders of small CSV files with the tables that must come of them (golden/README.md)."""

import csv
import re
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.assets.table import Input, Table, declare, parameters
from lakehouse_assets.assets.users_as_of import UsersAsOf
from lakehouse_assets.calendar import Days
from lakehouse_assets.landing.csv_files import read_chunk
from lakehouse_assets.landing.row_blocks import chunks
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.settings import load_settings

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())
THROUGH_DAGSTER = "late_rows"
TABLES = declare(load_settings())
READ = {i.table for table in TABLES.values() for i in table.inputs}
NO_DAYS = Days(date.max, date.min)


class Composed:
    """The tables of a landing zone, made by their functions alone: no Dagster, no storage, default settings."""

    def __init__(self, spark: SparkSession, landing: Path, **given: DataFrame) -> None:
        self.spark = spark
        self.zone = LandingZone(landing)
        self.settings = load_settings()
        self.made = dict(given)

    def table(self, name: str) -> DataFrame:
        """A table; those that others read are made once."""
        if name not in self.made:
            declared = TABLES[name]
            frames: dict[str, DataFrame | UsersAsOf] = {
                parameter: self.input(declared, i) for parameter, i in declared.reads.items()
            }
            if declared.landed:
                frames["delivered"] = self.delivered(declared.landed)
            made = declared.rows(frames, self.days_of(declared), self.settings)
            self.made[name] = self.stored(made) if name in READ else made
        return self.made[name]

    def input(self, declared: Table, i: Input) -> DataFrame | UsersAsOf:
        if i.table == declared.name:
            return self.spark.createDataFrame([], declared.spark_schema)
        return UsersAsOf(self.table(i.table), self.zone.dates("users")) if i.as_of else self.table(i.table)

    def days_of(self, declared: Table) -> Days:
        if "days" not in parameters(declared.function):
            return NO_DAYS
        return self.users_days if declared.calendar == "users" else self.days

    @cached_property
    def days(self) -> Days:
        """From the first day with a row or a delivery to the last delivery."""
        landed = self.zone.dates("interactions")
        routed = self.table("silver.interaction_routing").where("reason IS NULL").select("event_date").collect()
        return Days(min([*landed, *[row[0] for row in routed]]), max(landed))

    @cached_property
    def users_days(self) -> Days:
        landed = self.zone.dates("users")
        return Days(landed[0], landed[-1])

    def stored(self, frame: DataFrame) -> DataFrame:
        """The same rows without the way they were computed, as a table between two assets has them."""
        return self.spark.createDataFrame(frame.toArrow(), frame.schema)

    def delivered(self, dataset: str) -> DataFrame:
        batches = []
        for day in self.zone.dates(dataset):
            for file in self.zone.files(dataset, day):
                inspection = self.zone.inspect(dataset, file)
                for chunk in chunks(inspection, DATASETS[dataset]):
                    for batch in read_chunk(chunk):
                        days = pa.array([day] * batch.num_rows, pa.date32())
                        batches.append(pa.Table.from_batches([batch]).append_column("landing_date", days))
        if not batches:
            return self.spark.createDataFrame([], TABLES[f"bronze.{dataset}"].spark_schema)
        return self.spark.createDataFrame(pa.concat_tables(batches))


def expected_tables(case: str) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for path in sorted((GOLDEN / case / "expected").glob("*.csv")):
        kinds = TABLES[path.stem].spark_schema
        with path.open(newline="") as stream:
            found[path.stem] = [
                {name: _read(text, kinds[name].dataType.simpleString()) for name, text in row.items()}
                for row in csv.DictReader(stream)
            ]
    assert found, f"{case} expects nothing"
    return found


def _read(text: str, kind: str) -> object:
    """A cell of an expected file as a value of its column's type; empty is null."""
    if not text:
        return None
    if kind == "timestamp":
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    if kind == "double":  # docs/metrics fixes what a quotient means, not how it is rounded
        return pytest.approx(float(Fraction(text)), rel=2e-6)
    if kind == "date":
        return date.fromisoformat(text)
    if kind == "boolean":
        return {"true": True, "false": False}[text]
    return int(text) if kind == "bigint" else text


def assert_rows(found: Iterable[dict[str, Any]], wanted: list[dict[str, Any]], table: str) -> None:
    names = list(wanted[0])
    sortable = [name for name in names if TABLES[table].spark_schema[name].dataType.simpleString() != "double"]

    def ordered(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(rows, key=lambda row: [str(row[name]) for name in sortable])

    assert ordered({name: _shown(row[name]) for name in names} for row in found) == ordered(wanted), table


def _shown(value: object) -> object:
    """A value of a table as an expected file can say it: instants in UTC, empty text as null."""
    return value.astimezone(UTC) if isinstance(value, datetime) else None if value == "" else value


def assert_columns(wanted: list[dict[str, Any]], table: str) -> None:
    unknown_by_hand = ("extra_columns", "source_file", "source_line", "ingested_at")
    assert list(wanted[0]) == [name for name in TABLES[table].columns if name not in unknown_by_hand], table


@pytest.mark.parametrize("case", CASES)
def test_functions_give_the_expected_tables(spark: SparkSession, case: str) -> None:
    composed = Composed(spark, GOLDEN / case / "given")
    for name, wanted in expected_tables(case).items():
        assert_columns(wanted, name)
        assert_rows(composed.table(name).toArrow().to_pylist(), wanted, name)


def test_dagster_gives_the_expected_tables(make_lake: Callable[..., Any]) -> None:
    lake = make_lake()
    shutil.copytree(GOLDEN / THROUGH_DAGSTER / "given", lake.lakehouse.zone.root)
    lake.run()
    expected = expected_tables(THROUGH_DAGSTER)
    for name, wanted in expected.items():
        assert_rows(lake.table(name), wanted, name)
    assert lake.run() == [], "a second run found work although nothing changed"


def test_every_metric_table_has_a_golden_case() -> None:
    golden = {name for case in CASES for name in expected_tables(case)}
    internal = {"bronze.interactions", "bronze.users", "silver.interaction_routing"}
    assert golden == set(TABLES) - internal


def test_every_metric_table_has_a_page_with_all_its_columns() -> None:
    pages = [page.read_text() for page in (Path(__file__).parents[1] / "docs" / "metrics").glob("*.md")]
    of_table = {title: page for page in pages for title in page.splitlines()[0].removeprefix("# ").split(", ")}
    for name, table in TABLES.items():
        if table.layer == "gold":
            assert set(table.columns) <= set(re.findall(r"\w+", of_table[name])), name
            for heading in ("Question", "Definition", "Columns", "Example", "Cost"):
                assert f"**{heading}.**" in of_table[name], (name, heading)
