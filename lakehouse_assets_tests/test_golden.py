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

from lakehouse_assets.landing.csv_files import chunks, read_chunk
from lakehouse_assets.landing.files import DATASETS
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.settings import action_column, load_settings
from lakehouse_assets.tables import declare
from lakehouse_assets.transforms import (
    activity,
    anomalies,
    cleaning,
    counts,
    engagement,
    lifecycle,
    performance,
    retention,
    segments,
    sessions,
    users,
)

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())
THROUGH_DAGSTER = "late_rows"
TABLES = declare(load_settings())


class Composed:
    """The tables of a landing zone, made by the transforms alone: no Dagster, no storage, default settings."""

    def __init__(self, spark: SparkSession, landing: Path) -> None:
        self.spark = spark
        self.zone = LandingZone(landing)
        self.settings = load_settings()

    def table(self, name: str) -> DataFrame:
        return getattr(self, name.replace(".", "_"))

    @cached_property
    def silver_rejected_interactions(self) -> DataFrame:
        return cleaning.rejected_interactions(self.classified)

    @cached_property
    def silver_interactions(self) -> DataFrame:
        return self.stored(cleaning.deduplicate(cleaning.valid_interactions(self.classified)))

    @cached_property
    def silver_interaction_counts(self) -> DataFrame:
        routing = cleaning.routing(self.classified)
        return counts.interaction_counts(
            self.bronze, self.silver_rejected_interactions, routing, self.silver_interactions, *self.days
        )

    @cached_property
    def silver_user_days(self) -> DataFrame:
        by_type = {action: action_column(action) for action in self.settings.allowed_actions}
        return self.stored(activity.user_days(self.silver_interactions, by_type))

    @cached_property
    def silver_rejected_users(self) -> DataFrame:
        return users.rejected_users(users.judged(self.delivered("users")))

    @cached_property
    def silver_user_counts(self) -> DataFrame:
        days = self.zone.dates("users")
        return counts.user_counts(self.delivered("users"), self.silver_rejected_users, days[0], days[-1])

    @cached_property
    def silver_user_changes(self) -> DataFrame:
        nobody = self.spark.createDataFrame([], TABLES["silver.user_changes"].spark_schema)
        attributes = users.attributes(self.settings.segments)
        return self.stored(users.user_changes(self.delivered("users"), nobody, attributes))

    @cached_property
    def silver_users(self) -> DataFrame:
        return users.users(self.silver_user_changes)

    @cached_property
    def gold_daily_metrics(self) -> DataFrame:
        return activity.daily_metrics(self.silver_user_days, *self.days)

    @cached_property
    def gold_monthly_metrics(self) -> DataFrame:
        return activity.monthly_metrics(self.silver_user_days, *self.days)

    @cached_property
    def silver_user_first_days(self) -> DataFrame:
        nobody = self.spark.createDataFrame([], TABLES["silver.user_first_days"].spark_schema)
        return self.stored(lifecycle.first_days(self.silver_user_days, nobody))

    @cached_property
    def gold_lifecycle_metrics(self) -> DataFrame:
        return lifecycle.lifecycle_metrics(self.silver_user_days, self.silver_user_first_days, *self.days)

    @cached_property
    def gold_l28_histogram(self) -> DataFrame:
        return engagement.l28_histogram(self.silver_user_days, *self.days)

    @cached_property
    def gold_weekly_metrics(self) -> DataFrame:
        return activity.weekly_metrics(self.silver_user_days, *self.days)

    @cached_property
    def gold_action_metrics(self) -> DataFrame:
        by_type = {action: action_column(action) for action in self.settings.allowed_actions}
        return activity.action_metrics(self.silver_user_days, by_type, *self.days)

    @cached_property
    def gold_power_users(self) -> DataFrame:
        return engagement.power_users(self.silver_user_days, *self.days)

    @cached_property
    def gold_retention_weekly(self) -> DataFrame:
        user_days, first_days, changes = self.silver_user_days, self.silver_user_first_days, self.silver_user_changes
        return retention.retention_weekly(user_days, first_days, changes, self.zone.dates("users"), *self.days)

    @cached_property
    def gold_session_metrics(self) -> DataFrame:
        actions, gap_seconds = self.settings.allowed_actions, self.settings.session_gap_seconds
        return self.stored(sessions.session_metrics(self.silver_interactions, actions, gap_seconds))

    @cached_property
    def gold_session_distribution(self) -> DataFrame:
        return sessions.session_distribution(self.gold_session_metrics)

    @cached_property
    def gold_daily_session_metrics(self) -> DataFrame:
        return sessions.daily_session_metrics(self.gold_session_metrics, *self.days)

    @cached_property
    def silver_user_version_days(self) -> DataFrame:
        return self.stored(segments.user_version_days(self.silver_interactions))

    @cached_property
    def silver_duration_classes(self) -> DataFrame:
        return self.stored(performance.duration_classes(self.silver_interactions))

    @cached_property
    def gold_segment_metrics(self) -> DataFrame:
        return segments.segment_metrics(
            self.silver_user_version_days,
            self.gold_session_metrics,
            self.silver_user_changes,
            self.settings.segments,
            self.zone.dates("users"),
            *self.days,
        )

    @cached_property
    def gold_version_performance(self) -> DataFrame:
        return performance.version_performance(self.silver_interactions, self.silver_duration_classes, *self.days)

    @cached_property
    def gold_segment_performance(self) -> DataFrame:
        columns = segments.user_segments(self.settings.segments)
        return performance.segment_performance(
            self.silver_user_days, self.silver_user_changes, columns, self.zone.dates("users"), self.days[0]
        )

    @cached_property
    def gold_anomalies(self) -> DataFrame:
        return anomalies.anomalies(
            self.stored(self.gold_daily_metrics), self.stored(self.gold_daily_session_metrics), *self.days
        )

    @cached_property
    def bronze(self) -> DataFrame:
        return self.delivered("interactions")

    @cached_property
    def classified(self) -> DataFrame:
        classified = cleaning.classify(
            self.bronze,
            allowed_actions=self.settings.allowed_actions,
            max_duration_ms=self.settings.max_duration_ms,
            late_days=self.settings.late_days,
        )
        return self.stored(classified)

    def stored(self, frame: DataFrame) -> DataFrame:
        """The same rows without the way they were computed, as a table between two assets has them."""
        return self.spark.createDataFrame(frame.toArrow())

    @cached_property
    def days(self) -> tuple[date, date]:
        """From the first day with a row or a delivery to the last delivery."""
        landed = self.zone.dates("interactions")
        routed = [row[0] for row in self.classified.where("reason IS NULL").select("event_date").collect()]
        return min([*landed, *routed]), max(landed)

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
    if kind == "double":  # METRICS fixes what a quotient means, not how it is rounded
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
    unknown_by_hand = ("extra_columns", "source_file", "ingested_at")
    assert list(wanted[0]) == [name for name in TABLES[table].columns if name not in unknown_by_hand], table


@pytest.mark.parametrize("case", CASES)
def test_transforms_give_the_expected_tables(spark: SparkSession, case: str) -> None:
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
