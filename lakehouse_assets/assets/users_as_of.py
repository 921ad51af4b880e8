"""What users were on a day: versions of users, and which of them holds (docs/metrics: users over time)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.frames import stacked

DELIVERED_ATTRIBUTES = ("country", "device_type", "subscription_type")
APP_VERSION = "app_version"  # the one segment that is no column of the users: a user may have several on one day
_GROUPS = 1024  # of users
UNKNOWN = "unknown"  # the segment of users who are in no file, and of those whose column is empty


def attributes(segments: Sequence[str], extra_columns: Sequence[str]) -> tuple[str, ...]:
    """The text columns of a user: those of every users file, and further ones that the segments name."""
    further = user_segments(segments, extra_columns)
    return (*DELIVERED_ATTRIBUTES, *(name for name in further if name not in (*DELIVERED_ATTRIBUTES, "join_date")))


def user_segments(segments: Sequence[str], extra_columns: Sequence[str]) -> list[str]:
    """Those of the segments that are columns of the users; the others are columns of the events."""
    return [name for name in segments if name not in (APP_VERSION, *extra_columns)]


def with_ends(changes: DataFrame) -> DataFrame:
    """Versions with their end.

    Args:
        changes: all rows of silver.user_changes from some day on.

    Returns:
        The input with valid_to (first day of the user's next version, null without one) and is_current.
    """
    valid_to = _of_next_version("valid_from", "valid_from")
    return changes.withColumn("valid_to", valid_to).withColumn("is_current", F.col("valid_to").isNull())


def user_group() -> Column:
    """The group of a user, by a hash: each partition of a window costs Sail as much as many rows."""
    return F.pmod(F.xxhash64("user_id"), F.lit(_GROUPS))


def _of_next_version(column: str, *order: str) -> Column:
    """A column of the user's next version in some order, null without one.

    A window over many users, as most have one version.
    """
    along = Window.partitionBy(user_group()).orderBy("user_id", *order)
    return F.when(F.lead("user_id").over(along) == F.col("user_id"), F.lead(column).over(along))


@dataclass(frozen=True)
class UsersAsOf:
    """Versions of users, and the deliveries by which days see them.

    A day goes by the newest delivery that is not after it, before the first delivery by the first.

    Attributes:
        changes: rows of silver.user_changes up to the last of the deliveries.
        deliveries: landing dates of the users' files that the days go by, in order.
    """

    changes: DataFrame
    deliveries: Sequence[date]

    def since(self, beginning: date) -> DataFrame:
        """Versions by the first day that goes by them.

        Versions no newer than the first of the deliveries hold from the beginning on, where a user's newest one counts.

        Args:
            beginning: a day no later than any that is asked about.

        Returns:
            The versions with _since; of several versions of a user with the same _since the newest holds.
        """
        first = min(self.deliveries, default=beginning)
        since = F.when(F.col("valid_from") <= F.lit(first), F.lit(beginning)).otherwise(F.col("valid_from"))
        return self.changes.withColumn("_since", since)

    def lasting(self, columns: Sequence[str], beginning: date) -> DataFrame:
        """What each user in some file was, from the beginning on.

        Args:
            columns: columns of a version.
            beginning: a day no later than any that is asked about.

        Returns:
            _user_id, _since (first day), _until (day after the last), version (struct of the columns as text; null
            before the user's first version). Of versions with the same _since all but the newest last no day.
        """
        following = _of_next_version("_since", "_since", "valid_from")
        versions = self.since(beginning).select(
            F.col("user_id").alias("_user_id"),
            "_since",
            F.coalesce(following, F.lit(date.max)).alias("_until"),
            as_texts(columns).alias("version"),
        )
        unknown = (
            versions.groupBy("_user_id")
            .agg(F.min("_since").alias("_until"))
            .where(F.col("_until") > F.lit(beginning))
            .select("_user_id", F.lit(beginning).alias("_since"), "_until")
        )
        return stacked(versions, unknown)

    def at_deliveries(self) -> DataFrame:
        """Every user once for each of the deliveries, in the newest version by then.

        Returns:
            delivery_date and the columns of a version.
        """
        deliveries = F.array(*map(F.lit, self.deliveries)).cast("array<date>")
        holds = F.filter(
            deliveries, lambda day: (day >= F.col("valid_from")) & F.coalesce(day < F.col("valid_to"), F.lit(True))
        )
        return with_ends(self.changes).select(F.explode(holds).alias("delivery_date"), *self.changes.columns)

    def on_day(self, rows: DataFrame, columns: Sequence[str], beginning: date) -> DataFrame:
        """Rows of users and days with what the user was on the day: a point-in-time join.

        Args:
            rows: date, user_id and further columns.
            columns: columns of a version.
            beginning: a day no later than any of the rows.

        Returns:
            The rows with version, a struct of the columns as text; null for a user who is in no file by then.
        """
        lasting = self.lasting(columns, beginning)
        holds = (F.col("date") >= F.col("_since")) & (F.col("date") < F.col("_until"))
        joined = rows.join(lasting, (F.col("user_id") == F.col("_user_id")) & holds, "left")
        return joined.drop("_user_id", "_since", "_until")


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
