"""How long actions take, by app version and action type (docs/metrics: performance)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import MOST_VALUES, PERFORMANCE, WINDOW_28, Chart, largest
from lakehouse_assets.assets.columns import at_least, count, day, mean, one_of, text, whole
from lakehouse_assets.assets.gold.user_rows import day_number
from lakehouse_assets.assets.silver.duration_classes import CLASS_BITS, known_version
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.calendar import Days

WINDOW_DAYS = 28
PERCENTS = (50, 95, 99)
_BY = ("app_version", "action_type")
_OF_WINDOW = {  # columns and their types
    "date": "date",
    **dict.fromkeys(_BY, "string"),
    **dict.fromkeys(("actions_28d", *(f"p{percent}_duration_ms_28d" for percent in PERCENTS)), "bigint"),
}


@table_asset(
    "gold.version_performance",
    description="How long actions take by app version and type: exact for the day, by classes for 28 days.",
    columns=lambda settings: {
        "date": day("Day."),
        "app_version": text("App version; `unknown` where none was delivered."),
        "action_type": text("What the users did.", one_of(settings.allowed_actions)),
        "actions": count("Accepted interactions of the day."),
        "avg_duration_ms": mean("Mean duration_ms of the day, in ms."),
        **{
            f"p{percent}_duration_ms": whole(
                f"{percent}th percentile of the day's durations, in ms.", at_least(0), nullable=True
            )
            for percent in PERCENTS
        },
        "actions_28d": whole("Accepted interactions of the 28 days that end on the day.", at_least(1)),
        **{
            f"p{percent}_duration_ms_28d": count(
                f"{percent}th percentile of the 28 days' durations, in ms, to 1/64 of it."
            )
            for percent in PERCENTS
        },
    },
    partition_column="date",
    reads={
        "interactions": Input("silver.interactions"),
        "duration_classes": Input("silver.duration_classes", 1 - WINDOW_DAYS, 0),
    },
    key=("date", "app_version", "action_type"),
    by_month=True,
    charts=(
        Chart(
            "Slowest actions by app version",
            PERFORMANCE,
            "95th percentile of duration_ms over the 28 days that end on the day, to 1/64 of it, by app version: the "
            f"{MOST_VALUES} versions with the most actions of the newest day.",
            "line",
            "ms",
            query="SELECT date, app_version AS series, p95_duration_ms_28d::DOUBLE AS value, action_type "  # noqa: S608
            "FROM gold.version_performance "
            f"WHERE {largest('gold.version_performance', 'action_type', 'app_version', 'actions_28d')} "
            "ORDER BY action_type, series, date",
            choice="action_type",
            covers=WINDOW_28,
            place=10,
        ),
    ),
)
def version_performance(interactions: DataFrame, duration_classes: DataFrame, days: Days) -> DataFrame:
    """Percentiles of durations by app version and action type: exact for the day, by classes for its 28 days.

    Args:
        interactions: accepted rows of the days: event_date, app_version, action_type, duration_ms.
        duration_classes: rows of silver.duration_classes of the days and of the 27 before.
        days: days wanted.

    Returns:
        date, app_version, action_type, actions, avg_duration_ms, p50_duration_ms, p95_duration_ms, p99_duration_ms
        (discrete: durations that occurred; null without actions on the day), actions_28d, p50_duration_ms_28d,
        p95_duration_ms_28d, p99_duration_ms_28d (within 1/64); a row for what was used in the 28 days.
    """
    count = F.count(F.lit(1))
    exact = [
        F.expr(f"percentile_disc({percent / 100}) WITHIN GROUP (ORDER BY duration_ms)").alias(f"p{percent}_duration_ms")
        for percent in PERCENTS
    ]
    of_day = interactions.groupBy(F.col("event_date").alias("date"), known_version(), "action_type").agg(
        count.alias("actions"),
        (F.sum("duration_ms") / count).alias("avg_duration_ms"),
        *[column.cast("bigint") for column in exact],
    )
    return (
        _of_window(duration_classes, *days)
        .join(of_day, ["date", *_BY], "left")
        .select(
            "date",
            *_BY,
            F.coalesce("actions", F.lit(0)).alias("actions"),
            "avg_duration_ms",
            *[f"p{percent}_duration_ms" for percent in PERCENTS],
            "actions_28d",
            *[f"p{percent}_duration_ms_28d" for percent in PERCENTS],
        )
    )


def _of_window(classes: DataFrame, first: date, last: date) -> DataFrame:
    """Percentiles by classes over the 28 days that end on each day.

    Args:
        classes: rows of silver.duration_classes; days outside ``first`` - 27 … ``last`` are ignored.
        first: first day wanted.
        last: last day wanted.

    Returns:
        date, app_version, action_type, actions_28d and the percentiles.
    """

    def along_days(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for group in _alike(batches):
            yield from _percentiles_along_days(group, first, last).to_batches()

    read = classes.where(F.col("date").between(F.lit(first - timedelta(WINDOW_DAYS - 1)), F.lit(last)))
    schema = ", ".join(f"{name} {kind}" for name, kind in _OF_WINDOW.items())
    # not `applyInArrow`: on Sail it is an aggregate that wants a kilobyte of the memory pool for each row
    return read.repartition(*_BY).mapInArrow(along_days, schema)


def _alike(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows of each version and action type, of all rows of a partition."""
    held = list(batches)
    if not held:
        return
    rows = pa.Table.from_batches(held).sort_by([(name, "ascending") for name in _BY])
    codes = [rows[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in _BY]
    begins = np.flatnonzero(np.any([np.diff(code, prepend=-1) != 0 for code in codes], axis=0)).tolist()
    for begin, end in pairwise([*begins, rows.num_rows]):
        yield rows.slice(begin, end - begin)


def _percentiles_along_days(classes: pa.Table, first: date, last: date) -> pa.Table:
    """`_of_window` of one version and action type, as a matrix of days by classes.

    Sums along the days, less those of 28 days before, are the windows; sums along the classes give the places.
    """
    day = classes["date"].cast(pa.int32()).to_numpy()
    least, column = np.unique(classes["duration_from_ms"].to_numpy(), return_inverse=True)
    begin, end = int(day.min()), min(int(day.max()) + WINDOW_DAYS - 1, day_number(last))
    until = np.zeros((end - begin + 1, len(least)), np.int64)
    until[day - begin, column] = classes["actions"].to_numpy()
    np.cumsum(until, axis=0, out=until)
    window = until.copy()
    window[WINDOW_DAYS:] -= until[:-WINDOW_DAYS]
    so_far = np.cumsum(window, axis=1, out=window)
    total = so_far[:, -1]
    wanted = np.flatnonzero((total > 0) & (np.arange(begin, end + 1) >= day_number(first)))
    so_far, total = so_far[wanted] * 100, total[wanted]
    digits = np.frexp(least.astype(np.float64))[1]  # exact: a class's least value has six binary digits and zeros
    middle = least + (np.int64(1) << np.maximum(digits - CLASS_BITS, 0)) // 2
    places = [np.argmax(so_far >= total[:, np.newaxis] * percent, axis=1) for percent in PERCENTS]
    columns = [
        pa.array((wanted + begin).astype(np.int32)).cast(pa.date32()),
        *[pa.repeat(classes[name][0], len(wanted)) for name in _BY],
        pa.array(total),
        *[pa.array(middle[place]) for place in places],
    ]
    return pa.Table.from_arrays(columns, names=list(_OF_WINDOW))
