"""How often users use the app (docs/metrics: L28)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import ENGAGEMENT, WINDOW_28, Chart
from lakehouse_assets.assets.columns import between, count, day, whole
from lakehouse_assets.assets.gold.stretches import of_users_per_class
from lakehouse_assets.assets.gold.user_rows import Integers, dates, day_number
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.calendar import Days

L28_DAYS = 28
_TYPES = {"date": "date", "active_days": "bigint", "users": "bigint"}


@table_asset(
    "gold.l28_histogram",
    description="How many users were active on k of the 28 days that end on the day, k = 1 … 28.",
    columns={
        "date": day("Last of the 28 days."),
        "active_days": whole("Days of the 28 with activity.", between(1, L28_DAYS)),
        "users": count("Users with exactly that many active days."),
    },
    partition_column="date",
    reads={"user_days": Input("silver.user_days", 1 - L28_DAYS, 0)},
    key=("date", "active_days"),
    by_month=True,
    charts=(
        Chart(
            "How often users come",
            ENGAGEMENT,
            "The users of the 28 days that end on the day, by how many of these days they were active on.",
            "bar",
            "users",
            query="SELECT date, series, sum(users)::DOUBLE AS value FROM (SELECT date, users, active_days, CASE "
            "WHEN active_days = 1 THEN '1 day' WHEN active_days <= 3 THEN '2 to 3 days' "
            "WHEN active_days <= 7 THEN '4 to 7 days' WHEN active_days <= 14 THEN '8 to 14 days' "
            "ELSE '15 to 28 days' END AS series FROM gold.l28_histogram) "
            "GROUP BY date, series ORDER BY min(active_days), date",
            covers=WINDOW_28,
            place=20,
        ),
    ),
)
def l28_histogram(user_days: DataFrame, days: Days) -> DataFrame:
    """How many users were active on k of the 28 days that end on each of the days.

    Args:
        user_days: event_date, user_id of the days and of the 27 before.
        days: days wanted.

    Returns:
        date, active_days (k = 1 … 28), users (bigint); 28 rows a day.
    """
    first = day_number(days.first)

    def rows(users: Integers) -> pa.Table:
        of_day = users[:, 1:]
        columns = [
            dates(np.repeat(np.arange(first, first + len(of_day)), L28_DAYS)),
            pa.array(np.tile(np.arange(1, L28_DAYS + 1), len(of_day))),
            pa.array(of_day.ravel()),
        ]
        return pa.Table.from_arrays(columns, names=list(_TYPES))

    active = user_days.withColumn("amount", F.lit(1).cast("bigint"))
    return of_users_per_class(active, L28_DAYS, lambda total: total, L28_DAYS + 1, days, rows, _TYPES)
