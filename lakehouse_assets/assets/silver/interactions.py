"""Valid, deduplicated interactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import Column, between, count, day, instant, one_of, text, whole
from lakehouse_assets.assets.frames import division, in_days
from lakehouse_assets.assets.silver.cleaning import calendar_day, classify, earliest_landing_date
from lakehouse_assets.assets.table import (
    IN_ITS_PARTITION,
    NO_DUPLICATE_KEY,
    Divide,
    Input,
    Rule,
    table_asset,
    undivided,
)
from lakehouse_assets.assets.texts import trimmed
from lakehouse_assets.calendar import Days
from lakehouse_assets.settings import Cleaning, Settings

DUPLICATE_KEY = ("user_id", "timestamp", "action_type", "page_id")


def _columns(settings: Settings) -> Mapping[str, Column]:
    return {
        "event_date": day("Calendar day of the event in the reporting time zone."),
        "user_id": text("User, trimmed."),
        "timestamp": instant("Instant of the event."),
        "action_type": text("What the user did.", one_of(settings.allowed_actions, rule="allowed_actions")),
        "page_id": text("Page; null where none was delivered.", nullable=True),
        "duration_ms": whole(
            "How long it took, in ms.", between(0, settings.max_duration_ms, rule="duration_within_limits")
        ),
        "app_version": text("App version; null where none was delivered.", nullable=True),
        "landing_date": day("Day the surviving row was delivered under."),
        "duplicates": count("Rows with the same key that this one stands for, beside itself."),
    }


def _delivered_in_time(settings: Settings) -> tuple[Rule, ...]:
    late_days, zone = settings.late_days, settings.reporting_timezone
    return (
        Rule(
            IN_ITS_PARTITION,
            "event_date is the timestamp's day; delivered on it, here or in UTC, or at most late_days later",
            lambda: (
                (F.col("event_date") == calendar_day(F.col("timestamp"), zone))
                & F.col("landing_date").between(
                    earliest_landing_date(F.col("event_date"), F.col("timestamp"), zone),
                    F.date_add("event_date", late_days),
                )
            ),
        ),
    )


@table_asset(
    "silver.interactions",
    description="Valid, deduplicated interactions of an event date.",
    columns=_columns,
    partition_column="event_date",
    reads=lambda settings: {
        "bronze": Input("bronze.interactions", -settings.days_ahead, settings.late_days),
        "routing": Input("silver.interaction_routing", -settings.days_ahead, settings.late_days),
    },
    key=("event_date", *DUPLICATE_KEY),
    rules=_delivered_in_time,
    checks=("duration_within_limits", NO_DUPLICATE_KEY, "allowed_actions", IN_ITS_PARTITION),
    version=3,
)
def interactions(
    bronze: DataFrame,
    days: Days,
    cleaning: Cleaning,
    divide: Divide = undivided,
) -> DataFrame:
    """The valid rows of some event dates, one for each duplicate key.

    Args:
        bronze: delivered rows of all landing dates that may hold rows of the days.
        days: event dates wanted.
        cleaning: which rows count.
        divide: divides the rows among write tasks.
    """
    classified = classify(bronze, cleaning)
    valid = valid_interactions(classified).where(in_days("event_date", *days))
    return deduplicate(divide(valid, "event_date", "user_id", DUPLICATE_KEY))


def valid_interactions(classified: DataFrame, further: Sequence[str] = ()) -> DataFrame:
    """The valid rows of `classify`, typed: texts are trimmed, an empty page_id or app_version is null.

    Args:
        classified: rows of `classify`.
        further: columns of it to keep as they are.

    Returns:
        event_date, user_id, timestamp (instant), action_type, page_id, duration_ms (bigint), app_version,
        landing_date, and the further ones.
    """
    return classified.where("reason IS NULL").select(
        "event_date",
        trimmed("user_id").alias("user_id"),
        F.col("event_time").alias("timestamp"),
        trimmed("action_type").alias("action_type"),
        F.nullif(trimmed("page_id"), F.lit("")).alias("page_id"),
        F.col("duration").alias("duration_ms"),
        F.nullif(trimmed("app_version"), F.lit("")).alias("app_version"),
        "landing_date",
        *further,
    )


_DAY_DIGITS, _DURATION_DIGITS = 6, 19


def survivor_text() -> SparkColumn:
    """What of duplicates decides which one counts: landing_date, duration_ms, app_version (null first).

    A text that sorts as the three do: of structs with a null inside, engines differ on which is the smallest.
    """
    return F.concat(
        F.lpad(F.unix_date("landing_date").cast("string"), _DAY_DIGITS, "0"),
        F.lpad(F.col("duration_ms").cast("string"), _DURATION_DIGITS, "0"),
        F.coalesce(F.concat(F.lit("1"), "app_version"), F.lit("0")),
    )


def deduplicate(valid: DataFrame) -> DataFrame:
    """One row per duplicate key (user_id, timestamp, action_type, page_id; null page_ids are equal).

    The survivor is decided by content: earliest landing_date, then smallest duration_ms, then smallest app_version
    (null first). These three and the key are all a row has, so the smallest triple of a key is its survivor.

    Args:
        valid: rows of `valid_interactions`, perhaps divided among write tasks.

    Returns:
        The survivors, with duplicates (bigint): how many rows each one stands for beside itself.
    """
    divided_by = division(valid)
    survivor, version_at = F.col("_survivor"), _DAY_DIGITS + _DURATION_DIGITS + 1
    return (
        valid.groupBy(*divided_by, "event_date", *DUPLICATE_KEY)
        .agg(F.min(survivor_text()).alias("_survivor"), (F.count(F.lit(1)) - F.lit(1)).alias("duplicates"))
        .select(
            *divided_by,
            "event_date",
            *DUPLICATE_KEY,
            F.date_from_unix_date(F.substring(survivor, 1, _DAY_DIGITS).cast("int")).alias("landing_date"),
            F.substring(survivor, _DAY_DIGITS + 1, _DURATION_DIGITS).cast("bigint").alias("duration_ms"),
            F.when(F.substring(survivor, version_at, 1) == "1", F.substr(survivor, F.lit(version_at + 1))).alias(
                "app_version"
            ),
            "duplicates",
        )
    )
