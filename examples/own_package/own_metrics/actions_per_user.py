"""How much one active user does on a day: the median, and what one user in ten passes."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import ENGAGEMENT, Chart
from lakehouse_assets.assets.columns import at_least, count, day, whole
from lakehouse_assets.assets.frames import calendar
from lakehouse_assets.assets.table import Input, Rule, table_asset
from lakehouse_assets.calendar import Days


@table_asset(
    "gold.actions_per_user",
    description="Actions per active user of a day: median and 90th percentile, numbers that occurred.",
    columns={
        "date": day("Day."),
        "active_users": count("Distinct users active on the day."),
        "median_actions": whole("Half of the users do no more; null without users.", at_least(1), nullable=True),
        "p90_actions": whole("Nine users in ten do no more than that.", at_least(1), nullable=True),
    },
    partition_column="date",
    reads={"user_days": Input("silver.user_days")},
    key=("date",),
    rules=(
        Rule(
            "median_within_p90",
            "median <= p90",
            lambda: F.coalesce(F.col("median_actions") <= F.col("p90_actions"), F.col("active_users") == 0),
        ),
    ),
    checks=("median_within_p90",),
    by_month=True,
    charts=(
        Chart(
            "Actions a user",
            ENGAGEMENT,
            "Actions of the day's active users: half of them do no more than the median, nine in ten no more than p90.",
            "line",
            "actions",
            {"median": "median_actions", "p90": "p90_actions"},
        ),
    ),
)
def actions_per_user(user_days: DataFrame, days: Days) -> DataFrame:
    """Percentiles of users' actions on each of the days.

    Args:
        user_days: event_date, user_id, actions of the days.
        days: days wanted.

    Returns:
        date, active_users, median_actions, p90_actions (bigint); a row a day, also without users.
    """
    percentiles = [
        F.expr(f"percentile_disc({part}) WITHIN GROUP (ORDER BY actions)").cast("bigint").alias(name)
        for part, name in ((0.5, "median_actions"), (0.9, "p90_actions"))
    ]
    by_day = user_days.groupBy(F.col("event_date").alias("date")).agg(
        F.count("user_id").alias("active_users"), *percentiles
    )
    return calendar(user_days, *days).join(by_day, "date", "left").fillna(0, ["active_users"])
