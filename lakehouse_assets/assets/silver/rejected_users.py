"""Rows of users' files that can't be used."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import one_of, text
from lakehouse_assets.assets.delivered import delivered
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.assets.texts import first_reason, trimmed

# The order is the rule: a row gets the first reason that holds.
USER_REJECT_REASONS = ("malformed_row", "missing_user_id", "bad_join_date")
# A day, or a day and a time; both engines read these expressions alike. `\\z`: in Java `$` overlooks a last line end.
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?)?"
_ZONE = r" ?(Z|UTC|[+-][01][0-9](:?[0-5][0-9])?)"
_JOIN_DATE = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}([ T]{_TIME}({_ZONE})?)?\z"


@table_asset(
    "silver.rejected_users",
    description="Rows of users' files that can't be used, as delivered, each with the first reason that holds.",
    columns={**delivered("users"), "reason": text("Why the row was rejected.", one_of(USER_REJECT_REASONS))},
    partition_column="landing_date",
    reads={"bronze": Input("bronze.users")},
    calendar="users",
    by_month=True,
)
def rejected_users(bronze: DataFrame) -> DataFrame:
    """The rows of a landing date that can't be used: all columns as delivered, and their one reason."""
    return judged(bronze).where("reason IS NOT NULL").drop("joined")


def judged(bronze: DataFrame) -> DataFrame:
    """Give every delivered row of users its reject reason, or none.

    Args:
        bronze: user_id, join_date, malformed_row (text as delivered); further columns are kept.

    Returns:
        The input with joined (date: the day of join_date, null where that is empty) and reason (one of
        `USER_REJECT_REASONS`, null for a valid row).
    """
    text = trimmed("join_date")
    joined = _day_of(text)
    holds = {
        "malformed_row": F.col("malformed_row").isNotNull(),
        "missing_user_id": F.coalesce(trimmed("user_id"), F.lit("")) == "",
        "bad_join_date": (text != "") & joined.isNull(),
    }
    return bronze.withColumns({"joined": joined, "reason": first_reason(USER_REJECT_REASONS, holds)})


def _day_of(text: Column) -> Column:
    """The day a text names, or null where it names none.

    Accepts ``YYYY-MM-DD``, alone or followed by a blank or ``T`` and a time of day (``HH:MM``, with seconds, a
    fraction, a zone or without). The day is the one that is written: a zone does not move it. There is no year 0000.
    """
    shaped = text.rlike(_JOIN_DATE) & (F.substring(text, 1, 4) != "0000")
    return F.when(shaped, F.substring(text, 1, 10).try_cast("date"))
