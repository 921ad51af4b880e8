"""Unusual days of a metric, robust to its weekday rhythm and trend (docs/metrics: anomalies)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import MARK, QUALITY, Chart
from lakehouse_assets.assets.columns import day, flag, number, one_of, text
from lakehouse_assets.assets.frames import calendar
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.calendar import Days

DAILY_METRICS = ("daily_active_users", "total_actions", "avg_duration_ms")
SESSION_METRICS = ("sessions", "avg_actions_per_session", "single_action_rate")
COUNTS = ("daily_active_users", "total_actions", "sessions")
SHARES = ("single_action_rate",)
LEVEL_DAYS, LEVEL_AT_LEAST = 28, 14
WEEKS, WEEKS_AT_LEAST = 8, 4
SPREAD_DAYS, SPREAD_AT_LEAST = 56, 14
HISTORY_DAYS = LEVEL_DAYS + 7 * WEEKS + SPREAD_DAYS
UNUSUAL = 5.0  # of 24,720 quiet days this calls 3 unusual, where 4 would call 18
_OF_NORMAL = 1.4826  # the median distance from the middle of a normal distribution is 1 / 1.4826 deviations
_LEAST_SHARE, _LEAST_OF_ROOT = 0.02, 0.5  # a spread below 2 %, or of a count below half its root, is luck


@table_asset(
    "gold.anomalies",
    description="Metrics of a day beside what their weekday and trend let expect, and whether that is unusual.",
    columns={
        "date": day("Day."),
        "metric": text(
            "Column of gold.daily_metrics or gold.daily_session_metrics.", one_of((*DAILY_METRICS, *SESSION_METRICS))
        ),
        "value": number("Its value.", nullable=True),
        "expected_value": number("What was to be expected; null while the history is too short.", nullable=True),
        "lower_bound": number("Least value that is not unusual.", nullable=True),
        "upper_bound": number("Greatest value that is not unusual.", nullable=True),
        "deviation": number("Distance from the expected value, in usual distances.", nullable=True),
        "is_anomaly": flag("Whether the value is outside the bounds.", nullable=True),
    },
    partition_column="date",
    reads={
        "daily_metrics": Input("gold.daily_metrics", -HISTORY_DAYS, 0),
        "daily_session_metrics": Input("gold.daily_session_metrics", -HISTORY_DAYS, 0),
    },
    key=("date", "metric"),
    by_month=True,
    version=2,
    charts=(
        Chart(
            "Unusual days",
            QUALITY,
            "A metric, what its weekday and trend let expect, and the days on which it was outside its usual distance.",
            "marked",
            "value",
            query="SELECT date, series, number AS value, metric FROM (SELECT date, metric, value AS 'actual', "  # noqa: S608
            f"expected_value AS 'expected', CASE WHEN is_anomaly THEN value END AS '{MARK}' FROM gold.anomalies) "
            f"UNPIVOT (number FOR series IN (actual, expected, {MARK})) ORDER BY metric, series, date",
            choice="metric",
            compared=False,
            place=10,
        ),
    ),
)
def anomalies(daily_metrics: DataFrame, daily_session_metrics: DataFrame, days: Days) -> DataFrame:
    """Each metric of each of the days beside what was to be expected.

    - level: the median of the 28 days before (four of each weekday), 14 at least
    - expected: the level times the median, over the same weekday of the 8 weeks before (4 at least), of value / level
      as it was then; a steady growth and the rhythm of a week are in it, and one unusual day hardly is
    - distance: (value - expected) / sqrt(expected), by which small and large days of a count scatter alike
    - spread: 1.4826 times the median of the distances' sizes over the 56 days before (14 at least); no less than 2 %
      of what is expected, and for a count half its root
    - unusual: more than 5 spreads away
    - of a share no more than 1 is expected, nor called usual

    Every figure is computed row by row from medians, which are the same in any order of the rows; nothing is a sum of
    fractions.

    Args:
        daily_metrics: date and `DAILY_METRICS` of the days and of the 140 before.
        daily_session_metrics: date and `SESSION_METRICS` of the same days.
        days: days wanted.

    Returns:
        date, metric, value, expected_value, lower_bound, upper_bound, deviation (spreads from the expected value),
        is_anomaly; all but date and metric null where there is no value or too short a history.
    """
    per_metric = [_long(daily_metrics, DAILY_METRICS), _long(daily_session_metrics, SESSION_METRICS)]
    names = F.explode(F.array(*map(F.lit, (*DAILY_METRICS, *SESSION_METRICS))))
    history = calendar(daily_metrics, days.first - timedelta(HISTORY_DAYS), days.last).withColumn("metric", names)
    values = history.join(per_metric[0].unionByName(per_metric[1]), ["date", "metric"], "left")
    along = Window.partitionBy("metric").orderBy("date")

    def before(length: int) -> Column:
        # Spark's own list has no nulls; Sail's has them where it is collected over a window
        return F.array_compact(F.collect_list("_collected").over(along.rowsBetween(-length, -1)))

    levelled = values.withColumn("_collected", F.col("value")).withColumn(
        "level", _median(before(LEVEL_DAYS), LEVEL_AT_LEAST)
    )
    ratio = F.when(F.col("level") > 0, F.col("value") / F.col("level"))
    ratios = levelled.withColumn("ratio", ratio)
    same_weekday = F.array_compact(F.array(*[F.lag("ratio", 7 * week).over(along) for week in range(1, WEEKS + 1)]))
    expected = F.when(F.col("level") > 0, F.col("level") * _median(same_weekday, WEEKS_AT_LEAST))
    root = F.sqrt(F.greatest("expected_value", F.lit(1.0)))
    distances = (
        ratios.withColumn("expected_value", expected)
        .withColumn("expected_value", _at_most_all(F.col("expected_value")))
        .withColumn("root", root)
        .withColumn("distance", (F.col("value") - F.col("expected_value")) / F.col("root"))
        .withColumn("_collected", F.abs("distance"))
    )
    least = F.greatest(
        F.col("expected_value") * _LEAST_SHARE,
        F.when(F.col("metric").isin(*COUNTS), F.col("root") * _LEAST_OF_ROOT),
    )
    spread = F.greatest(_median(before(SPREAD_DAYS), SPREAD_AT_LEAST) * _OF_NORMAL * F.col("root"), least)
    known = F.col("distance").isNotNull() & (F.size(before(SPREAD_DAYS)) >= SPREAD_AT_LEAST)
    judged = distances.withColumn("spread", F.when(known & (spread > 0), spread))
    is_known, widest = F.col("spread").isNotNull(), F.col("spread") * UNUSUAL
    deviation = (F.col("value") - F.col("expected_value")) / F.col("spread")
    return judged.where(F.col("date") >= F.lit(days.first)).select(
        "date",
        "metric",
        "value",
        F.when(is_known, F.col("expected_value")).alias("expected_value"),
        F.when(is_known, F.greatest(F.col("expected_value") - F.col("spread") * UNUSUAL, F.lit(0.0))).alias(
            "lower_bound"
        ),
        _at_most_all(F.col("expected_value") + widest).alias("upper_bound"),
        deviation.alias("deviation"),
        (F.abs(deviation) > UNUSUAL).alias("is_anomaly"),
    )


def _at_most_all(figure: Column) -> Column:
    """A figure of a metric, of a share no more than 1."""
    return F.when(F.col("metric").isin(*SHARES) & (figure > 1), F.lit(1.0)).otherwise(figure)


def _long(metrics: DataFrame, names: Sequence[str]) -> DataFrame:
    """A row for each of some columns: date, metric, value."""
    values = [F.struct(F.lit(name).alias("metric"), F.col(name).cast("double").alias("value")) for name in names]
    return metrics.select("date", F.inline(F.array(*values)))


def _median(values: Column, at_least: int) -> Column:
    """The median of an array, null if it has fewer than so many values."""
    ordered = F.array_sort(values)
    size = F.size(values)
    lower, upper = F.floor((size - 1) / 2).cast("int"), F.floor(size / 2).cast("int")
    return F.when(size >= at_least, (F.get(ordered, lower) + F.get(ordered, upper)) / 2)
