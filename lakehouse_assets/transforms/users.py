"""Users over time (METRICS: `silver.users`): versions of a user, and which of them holds on a day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.transforms.cleaning import first_reason, trimmed

# The order is the rule: a row gets the first reason that holds.
USER_REJECT_REASONS = ("malformed_row", "missing_user_id", "bad_join_date")

DELIVERED_ATTRIBUTES = ("country", "device_type", "subscription_type")
# A day, or a day and a time; both engines read these expressions alike. `\\z`: in Java `$` overlooks a last line end.
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?)?"
_ZONE = r" ?(Z|UTC|[+-][01][0-9](:?[0-5][0-9])?)"
_JOIN_DATE = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}([ T]{_TIME}({_ZONE})?)?\z"
UNKNOWN = "unknown"  # the segment of users who are in no file, and of those whose column is empty


def attributes(segments: Sequence[str]) -> tuple[str, ...]:
    """The text columns of a user: those of every users file, and further ones that the segments name."""
    further = [name for name in segments if name not in (*DELIVERED_ATTRIBUTES, "join_date", "app_version")]
    return (*DELIVERED_ATTRIBUTES, *further)


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


def rejected_users(judged: DataFrame) -> DataFrame:
    """The rows of `judged` that can't be used: all columns as delivered, and their one reason."""
    return judged.where("reason IS NOT NULL").drop("joined")


def user_changes(bronze: DataFrame, earlier: DataFrame, attributes: Sequence[str]) -> DataFrame:
    """The versions of users that begin with some deliveries: rows that say something else than was known before.

    Of a delivery's rows of one user the one with the latest join_date counts (none is earliest), then the smallest by
    content. Rows that `judged` gives a reason don't count. One shuffle by user.

    Args:
        bronze: user_id, join_date, country, device_type, subscription_type, extra_columns (JSON object),
            malformed_row (text as delivered) and landing_date (date) of some days.
        earlier: all versions that begin before these days.
        attributes: the text columns of a version; those that no users file must have come from extra_columns.

    Returns:
        valid_from (landing date), user_id, join_date (date) and the attributes (null where empty).
    """
    extra = F.from_json("extra_columns", "map<string, string>")
    valid = judged(bronze).where("reason IS NULL")
    typed = valid.select(
        F.col("landing_date").alias("valid_from"),
        trimmed("user_id").alias("user_id"),
        F.col("joined").alias("join_date"),
        *[_blank_to_null(trimmed(name)).alias(name) for name in attributes if name in bronze.columns],
        *[_blank_to_null(extra[name]).alias(name) for name in attributes if name not in bronze.columns],
    )
    version = F.struct("join_date", *attributes)
    # each column by itself: of structs with a null inside, engines differ on which is the smallest
    best_first = (F.col("join_date").desc_nulls_last(), *[F.col(name).asc_nulls_first() for name in attributes])
    place = F.row_number().over(Window.partitionBy("user_id", "valid_from").orderBy(*best_first))
    # by user first: what follows, by user and day and by user again, finds its rows where they are
    delivered = (
        typed.repartition("user_id")
        .withColumn("_place", place)
        .where("_place = 1")
        .select("user_id", "valid_from", version.alias("version"), F.lit(True).alias("delivered"))
    )
    known = earlier.repartition("user_id").select(
        "user_id", "valid_from", version.alias("version"), F.lit(False).alias("delivered")
    )
    before = F.lag("version").over(Window.partitionBy("user_id").orderBy("valid_from"))
    return (
        delivered.unionByName(known)
        .withColumn("before", before)
        .where(F.col("delivered") & ~F.col("version").eqNullSafe(F.col("before")))
        .select("valid_from", "user_id", "version.*")
    )


def users(changes: DataFrame) -> DataFrame:
    """Versions with their end: a slowly changing dimension of type 2.

    Args:
        changes: all rows of `user_changes` from some day on.

    Returns:
        The input with valid_to (first day of the user's next version, null without one) and is_current.
    """
    valid_to = F.lead("valid_from").over(Window.partitionBy("user_id").orderBy("valid_from"))
    return changes.withColumn("valid_to", valid_to).withColumn("is_current", F.col("valid_to").isNull())


def since_snapshots(changes: DataFrame, snapshot_dates: Sequence[date], beginning: date) -> DataFrame:
    """Versions by the first day they hold on, for days that go by some snapshots.

    A day goes by the newest snapshot that is not after it, before the first snapshot by the first. So versions no
    newer than the first of the given snapshots hold from the beginning on, where a user's newest one counts.

    Args:
        changes: rows of `user_changes` up to the last of the snapshots.
        snapshot_dates: the snapshots that the days go by.
        beginning: a day no later than any that is asked about.

    Returns:
        The input with _since; of several versions of a user with the same _since the newest holds.
    """
    first = min(snapshot_dates, default=beginning)
    return changes.withColumn(
        "_since", F.when(F.col("valid_from") <= F.lit(first), F.lit(beginning)).otherwise(F.col("valid_from"))
    )


def at_snapshots(changes: DataFrame, snapshot_dates: Sequence[date]) -> DataFrame:
    """Every user once for each of the snapshots, in the newest version by then.

    Args:
        changes: rows of `user_changes` up to the last of the snapshots.
        snapshot_dates: the snapshots.

    Returns:
        snapshot_date and the columns of a version.
    """
    snapshots = F.array(*map(F.lit, snapshot_dates)).cast("array<date>")
    holds = F.filter(
        snapshots, lambda day: (day >= F.col("valid_from")) & F.coalesce(day < F.col("valid_to"), F.lit(True))
    )
    return users(changes).select(F.explode(holds).alias("snapshot_date"), *changes.columns)


def on_day(
    days: DataFrame, changes: DataFrame, columns: Sequence[str], snapshot_dates: Sequence[date], beginning: date
) -> DataFrame:
    """Rows of users and days with what the user was on the day: a point-in-time join.

    Args:
        days: date, user_id and further columns.
        changes: rows of `user_changes` up to the last of the snapshots.
        columns: columns of a version.
        snapshot_dates: the snapshots that the days go by.
        beginning: a day no later than any of ``days``.

    Returns:
        The input with version, a struct of the columns as text; null for a user who is in no file by then.
    """
    versions = since_snapshots(changes, snapshot_dates, beginning)
    following = F.lead("_since").over(Window.partitionBy("user_id").orderBy("_since", "valid_from"))
    lasting = versions.select(
        F.col("user_id").alias("_user_id"),
        "_since",
        F.coalesce(following, F.lit(date.max)).alias("_until"),
        as_texts(columns).alias("version"),
    )
    holds = (F.col("date") >= F.col("_since")) & (F.col("date") < F.col("_until"))
    return days.join(lasting, (F.col("user_id") == F.col("_user_id")) & holds, "left").drop(
        "_user_id", "_since", "_until"
    )


def as_texts(columns: Sequence[str]) -> Column:
    """A struct of columns, each as text under its name."""
    return F.struct(*[F.col(name).cast("string").alias(name) for name in columns])


def by_segment(columns: Sequence[str]) -> Column:
    """A row for each of some columns of the struct version: segment (the column) and value, `UNKNOWN` for none."""
    values = [
        F.struct(F.lit(name).alias("segment"), F.coalesce(F.col("version")[name], F.lit(UNKNOWN)).alias("value"))
        for name in columns
    ]
    return F.inline(F.array(*values))


def _blank_to_null(text: Column) -> Column:
    return F.nullif(text, F.lit(""))
