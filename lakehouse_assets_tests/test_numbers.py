"""Numbers with a fraction on days as extreme as a log can be: finite, within bounds, the same in any order."""

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from functools import reduce
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_assets.assets.gold.segment_performance import segment_performance
from lakehouse_assets.assets.table import VALID_COLUMNS, Rule
from lakehouse_assets.assets.users_as_of import UsersAsOf
from lakehouse_assets.calendar import DAY, Days, days_between
from lakehouse_assets_tests.test_golden import TABLES, Composed

FRACTIONS = {
    name: columns
    for name, table in TABLES.items()
    if (columns := [name for name, column in table.columns.items() if column.kind == "double"])
}
LONGEST_MS = 7_200_000
BEGIN = date(2023, 1, 1)
# each day's users: how many, what each of them takes, and what one user of another country takes, in ms
EXTREMES = {
    "one user": (0, 0, 0),
    "one user, longest": (0, 0, LONGEST_MS),
    "two users": (1, 0, LONGEST_MS),
    "three users": (2, 0, 1),
    "all equal": (19, 1_000, 1_000),
    "all zero": (19, 0, 0),
    "all longest": (19, LONGEST_MS, LONGEST_MS),
    "one shorter": (19, LONGEST_MS, 0),
    "the same once more": (19, LONGEST_MS, 0),
}
WEEKS = 9  # anomalies are judged after eight
ONE_AGAINST = range(3, 400)  # with 34 of these the sums of fractions gave a correlation above 1


class Extremes(Composed):
    """The tables of interactions that are accepted already."""

    def __init__(self, spark: SparkSession, landing: Path, interactions: DataFrame, last: date) -> None:
        super().__init__(spark, landing, **{"silver.interactions": interactions})
        self.last = last

    @property
    def days(self) -> Days:
        return Days(BEGIN, self.last)


def interactions(day: date, many: int, duration_ms: int, of_the_one: int) -> Iterator[dict[str, Any]]:
    durations = [*[duration_ms] * many, of_the_one]
    for number, duration in enumerate(durations):
        yield {
            "event_date": day,
            "user_id": "one" if number == many else f"u{number}",
            "timestamp": datetime.combine(day, time(), UTC),
            "action_type": "edit",
            "duration_ms": duration,
            "app_version": "1.0.0",
        }


@pytest.fixture(scope="module")
def extremes(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[Extremes]:
    """The same interactions as they come, and in another order in other partitions."""
    landing = tmp_path_factory.mktemp("landing")
    (landing / "users" / f"date={BEGIN}").mkdir(parents=True)
    users = [*(f"u{number},2022-12-30,FR,ios,free" for number in range(19)), "one,2022-12-30,DE,ios,free"]
    header = "user_id,join_date,country,device_type,subscription_type"
    (landing / "users" / f"date={BEGIN}" / "a.csv").write_text("\n".join([header, *users, ""]))
    # a day without anybody, each extreme again and again, and two days without anybody
    of_days = islice(cycle(EXTREMES.values()), 7 * WEEKS)
    days = days_between(BEGIN, BEGIN + (7 * WEEKS + 2) * DAY)
    rows = [row for day, extreme in zip(days[1:], of_days, strict=False) for row in interactions(day, *extreme)]
    accepted = spark.createDataFrame(pa.Table.from_pylist(rows))
    shuffled = spark.createDataFrame(pa.Table.from_pylist(Random(1).sample(rows, len(rows)))).repartition(7)
    return [Extremes(spark, landing, frame, days[-1]) for frame in (accepted, shuffled)]


def breaches(frame: DataFrame, rules: list[Rule]) -> dict[str, int]:
    """For each broken law how many rows break it."""
    counts = [F.count_if(~F.coalesce(rule.holds(), F.lit(False))).alias(rule.name) for rule in rules]
    return {name: count for name, count in frame.agg(*counts).collect()[0].asDict().items() if count}


@pytest.mark.parametrize("name", FRACTIONS)
def test_numbers_of_extreme_days_are_finite_within_bounds_and_the_same_in_any_order(
    extremes: list[Extremes], name: str
) -> None:
    one, other = (extreme.stored(extreme.table(name)) for extreme in extremes)
    contract = TABLES[name].contract()
    assert breaches(one, contract) == {}
    rows, others = (sorted(map(tuple, frame.collect()), key=str) for frame in (one, other))
    assert rows == others  # to the last bit
    assert len(rows) >= 7 * WEEKS
    spoilt = []
    for column in FRACTIONS[name]:
        assert any(row[one.columns.index(column)] is not None for row in rows), column
        spoilt += [one.limit(1).withColumn(column, F.lit(number)) for number in (math.nan, math.inf, -math.inf)]
    assert breaches(reduce(DataFrame.union, spoilt), contract)[VALID_COLUMNS] == len(spoilt)


def correlations(performance: DataFrame) -> dict[date, dict[str, tuple[float | None, ...]]]:
    """For each day and value of a segment the correlation and the ends of its interval."""
    found: dict[date, dict[str, tuple[float | None, ...]]] = {}
    for row in performance.toArrow().to_pylist():
        figures = tuple(row[f"duration_correlation{end}"] for end in ("", "_low", "_high"))
        found.setdefault(row["date"], {})[row["value"]] = figures
    return found


def of_countries(days: DataFrame, duration_ms: Column) -> DataFrame:
    """The performance of users by numbers, rows of id and event_date; user 0 is from DE, the others from FR."""
    user = F.col("id").cast("string").alias("user_id")
    user_days = days.select("event_date", user, F.lit(1).cast("bigint").alias("actions"), duration_ms.cast("bigint"))
    changes = days.select("id").distinct()
    country = F.when(F.col("id") == 0, "DE").otherwise("FR").alias("country")
    versions = changes.select(F.lit(BEGIN).alias("valid_from"), user, country)
    named = user_days.toDF("event_date", "user_id", "actions", "duration_ms")
    return segment_performance(named, UsersAsOf(versions, [BEGIN]), ["country"], Days(BEGIN, BEGIN))


def test_one_against_many_correlates_exactly(spark: SparkSession, extremes: list[Extremes]) -> None:
    of_extremes = correlations(extremes[0].table("gold.segment_performance").where("segment = 'country'"))
    nothing, perfect, inverse = (None,) * 3, (1.0,) * 3, (-1.0,) * 3
    assert {name: of_extremes[BEGIN + (1 + at) * DAY] for at, name in enumerate(EXTREMES)} == {
        "one user": {"DE": nothing},
        "one user, longest": {"DE": nothing},
        "two users": {"DE": (1.0, None, None), "FR": (-1.0, None, None)},
        "three users": {"DE": (1.0, None, None), "FR": (-1.0, None, None)},
        "all equal": {"DE": nothing, "FR": nothing},
        "all zero": {"DE": nothing, "FR": nothing},
        "all longest": {"DE": nothing, "FR": nothing},
        "one shorter": {"DE": inverse, "FR": perfect},
        "the same once more": {"DE": inverse, "FR": perfect},
    }
    days = F.explode(F.array([F.lit(BEGIN + many * DAY) for many in ONE_AGAINST])).alias("event_date")
    present = (
        spark.range(ONE_AGAINST.stop).select("id", days).where(F.col("id") <= F.date_diff("event_date", F.lit(BEGIN)))
    )
    found = correlations(of_countries(present, F.when(F.col("id") == 0, LONGEST_MS).otherwise(0)))
    assert found == {BEGIN + many * DAY: {"DE": perfect, "FR": inverse} for many in ONE_AGAINST}


@pytest.mark.faults
def test_a_million_users_correlate_exactly(spark: SparkSession) -> None:
    count = 1_000_000
    days = spark.range(count).withColumn("event_date", F.explode(F.array(F.lit(BEGIN), F.lit(BEGIN + DAY))))
    apart = F.when(F.col("id") == 0, LONGEST_MS).otherwise(0)
    found = correlations(of_countries(days, F.when(F.col("event_date") == F.lit(BEGIN), apart).otherwise(F.col("id"))))
    assert found[BEGIN] == {"DE": (1.0, 1.0, 1.0), "FR": (-1.0, -1.0, -1.0)}
    lowest = -math.sqrt(3 / (count + 1))  # the first of all places against all others
    assert {value: figures[0] for value, figures in found[BEGIN + DAY].items()} == {
        "DE": pytest.approx(lowest, abs=1e-12),
        "FR": pytest.approx(-lowest, abs=1e-12),
    }
