"""Every table, declared once: columns, contract, key, storage and what it is computed from.

Writer, asset checks, metadata, planner and docs all read these declarations; nothing of them is said twice.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial, reduce
from typing import Any, Literal

import pandera.pyspark as pa
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_assets.calendar import days_between, period_first, period_last
from lakehouse_assets.landing.files import DATASETS
from lakehouse_assets.settings import Settings, SettingsError, action_column
from lakehouse_assets.transforms.anomalies import DAILY_METRICS, HISTORY_DAYS, SESSION_METRICS
from lakehouse_assets.transforms.cleaning import REJECT_REASONS, calendar_day, earliest_landing_date
from lakehouse_assets.transforms.engagement import L28_DAYS, POWER_DAYS
from lakehouse_assets.transforms.lifecycle import PERIODS
from lakehouse_assets.transforms.performance import PERCENTS, WINDOW_DAYS
from lakehouse_assets.transforms.retention import COHORTS, WEEKS
from lakehouse_assets.transforms.segments import LONGEST_DAYS, user_segments
from lakehouse_assets.transforms.sessions import MEASURES
from lakehouse_assets.transforms.users import USER_REJECT_REASONS, attributes

STRING, BIGINT, DOUBLE, DATE, TIMESTAMP = T.StringType(), T.LongType(), T.DoubleType(), T.DateType(), T.TimestampType()
BOOLEAN = T.BooleanType()

IN_ITS_PARTITION = "rows_in_their_partition"
NO_DUPLICATE_KEY = "no_duplicate_key"
VALID_COLUMNS = "columns_valid"
Calendar = Literal["events", "landings", "users"]
EVER = -36_500  # days back that no lakehouse reaches: landing dates begin in 2000


@dataclass(frozen=True)
class Rule:
    """A law every row of a table obeys; a null outcome is a breach. Its name is the asset check's name.

    A law that says several things has a part for each, so that a breach is told by the one that is broken.
    """

    name: str
    description: str
    holds: Callable[[], Column]
    parts: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Input:
    """A table another one is computed from: day D reads days D + first_offset … D + last_offset of it.

    With ``within`` (``week`` or ``month``) the content of D follows only from those of them that are of D's own ISO
    week or calendar month. A table may be an input of itself, of days before D: then its day D follows from everything
    before it. Of what changes with snapshots it may read the state ``as_of`` D alone: of the newest snapshot delivered
    by then, before the first one of the first.
    """

    table: str
    first_offset: int = 0
    last_offset: int = 0
    within: str | None = None
    as_of: bool = False

    @property
    def reads_other_days(self) -> bool:
        """Whether a day reads more than the same day of the table."""
        return self.as_of or (self.first_offset, self.last_offset) != (0, 0)

    @property
    def in_words(self) -> str:
        """Which days of the table a day reads, as text: ``of the day``, ``from day -29 to the day``."""
        if self.as_of:
            return "as of the day"
        if not self.reads_other_days:
            return "of the day"
        begin, end = _offset_in_words(self.first_offset, "first"), _offset_in_words(self.last_offset, "last")
        return f"from {begin} to {end}" + (f" within the {self.within}" if self.within else "")

    def span_read(self, first: date, last: date) -> tuple[date, date]:
        """The first and the last day that the days ``first`` … ``last`` read."""
        (low, _), (_, high) = (self._around(day, self.first_offset, self.last_offset) for day in (first, last))
        return low, high

    def days_read(self, day: date, first: date, last: date) -> list[date]:
        """The days from ``first`` to ``last`` that the content of ``day`` follows from."""
        low, high = self._around(day, self.first_offset, self.last_offset)
        return days_between(max(low, first), min(high, last))

    def days_reached(self, stretch: tuple[date, date], first: date, last: date) -> list[date]:
        """The days from ``first`` to ``last`` whose content follows from one of the days of a stretch."""
        low, _ = self._around(stretch[0], -self.last_offset, -self.first_offset)
        _, high = self._around(stretch[1], -self.last_offset, -self.first_offset)
        return days_between(max(low, first), min(high, last))

    def _around(self, day: date, begin: int, end: int) -> tuple[date, date]:
        low, high = day + timedelta(begin), day + timedelta(end)
        if self.within:
            low, high = max(low, period_first(day, self.within)), min(high, period_last(day, self.within))
        return low, high


def _offset_in_words(days: int, extreme: str) -> str:
    if abs(days) >= -EVER:
        return f"the {extreme} day"
    return f"day {days:+d}" if days else "the day"


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: ``layer.table``.
        description: one sentence for the catalog and the UI.
        schema: pandera schema: columns with type, nullability, description and value checks.
        partition_column: the date column that daily partitions go by.
        calendar: the days that it has: of its own landed files (``users``, ``landings``), or of ``events``, which only
            their rows tell.
        inputs: what it is computed from.
        key: columns that identify a row; empty where rows repeat as delivered.
        rules: further laws of a row.
        checks: names of laws shown as asset checks of their own; the audit before publication counts them all.
        by_month: few rows a day: all days of a month share a file and are rewritten together.
        sorted_by: columns that the rows of a file are sorted by before its days and its key.
        settings: names of the settings that change its content.
        version: raised by hand when its computation changes, so that every day counts as stale.
    """

    name: str
    description: str
    schema: pa.DataFrameSchema
    partition_column: str
    calendar: Calendar = "events"
    inputs: tuple[Input, ...] = ()
    key: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    checks: tuple[str, ...] = ()
    by_month: bool = False
    sorted_by: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    version: int = 1

    @property
    def reads_itself(self) -> bool:
        """Whether each day follows from all days before, so that its stamp vouches for them too."""
        return any(i.table == self.name for i in self.inputs)

    @property
    def layer(self) -> str:
        """``bronze``, ``silver`` or ``gold``."""
        return self.name.split(".")[0]

    @property
    def columns(self) -> list[str]:
        """Column names in order."""
        return list(self.schema.columns)

    @property
    def spark_schema(self) -> T.StructType:
        """The columns as Spark types."""
        return self.schema.to_structtype()

    def contract(self) -> list[Rule]:
        """Every law of a row, the columns' own first: what the audit counts breaches of.

        A law of every number with a fraction is that it is one: neither NaN nor infinite.
        """
        parts: dict[str, list[Rule]] = {VALID_COLUMNS: []}
        for name, column in self.schema.columns.items():
            if not column.nullable:
                parts[VALID_COLUMNS].append(Rule(VALID_COLUMNS, f"{name} is not null", partial(_is_there, name)))
            if column.dtype.type == DOUBLE:
                parts[VALID_COLUMNS].append(
                    Rule(VALID_COLUMNS, f"{name} is a finite number", partial(_is_finite, name))
                )
            for check in column.checks:
                rule = check.title or VALID_COLUMNS
                parts.setdefault(rule, []).append(Rule(rule, f"{name}: {check.error}", partial(_passes, name, check)))
        return [*(_together(name, of_law) for name, of_law in parts.items()), *self.rules]


def _together(name: str, parts: Sequence[Rule]) -> Rule:
    description = "; ".join(part.description for part in parts)
    return Rule(name, description, partial(_all, [part.holds for part in parts]), tuple(parts))


def _all(conditions: list[Callable[[], Column]]) -> Column:
    return reduce(operator.and_, (condition() for condition in conditions))


def _is_there(name: str) -> Column:
    return F.col(name).isNotNull()


def _is_finite(name: str) -> Column:
    """Whether a number is neither NaN, which Spark takes for the greatest of all, nor infinite; null passes."""
    return F.col(name).isNull() | (F.abs(name) < F.lit(math.inf))


def _passes(name: str, check: pa.Check) -> Column:
    """A pandera check as a Spark condition, so that one job counts all of them; null passes (nullability is apart)."""
    column, values = F.col(name), check.statistics or {}
    if check.name == "in_range":
        holds = column.between(values["min_value"], values["max_value"])
    elif check.name == "greater_than_or_equal_to":
        holds = column >= values["min_value"]
    elif check.name == "isin":
        holds = column.isin(*values["allowed_values"])
    else:
        raise NotImplementedError(f"no Spark condition for pandera check {check.name!r} of column {name!r}")
    return column.isNull() | holds


def _column(dtype: Any, description: str, *checks: pa.Check, nullable: bool = False) -> pa.Column:
    return pa.Column(dtype, checks=list(checks), nullable=nullable, description=description)


def _at_least_zero() -> pa.Check:
    return pa.Check.ge(0)


def _share() -> pa.Check:
    return pa.Check.in_range(0, 1)


def _correlation() -> pa.Check:
    return pa.Check.in_range(-1, 1)


def _text(description: str, *checks: pa.Check) -> pa.Column:
    return _column(STRING, description, *checks, nullable=True)


def _count(description: str) -> pa.Column:
    return _column(BIGINT, description, _at_least_zero())


def _schema(**columns: pa.Column) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(columns, strict=True)


def _delivered(dataset: str) -> dict[str, pa.Column]:
    """Columns of a bronze table: the file's own as text, then where each row came from."""
    return {
        "landing_date": _column(DATE, "Day the file was delivered under."),
        **{name: _text(f"`{name}` as delivered.") for name in DATASETS[dataset]},
        "extra_columns": _text("Delivered columns beyond the expected ones, as a JSON object."),
        "malformed_row": _text("The row as delivered where it does not fit the header; the other columns are null."),
        "source_file": _column(STRING, "Name of the delivered file."),
        "ingested_at": _column(TIMESTAMP, "When the run that read the file began."),
    }


def declare(settings: Settings) -> Mapping[str, Table]:
    """All tables of a lakehouse with these settings, by name, each after what it is computed from."""
    late, ahead = settings.late_days, settings.days_ahead
    cleaning = (
        "allowed_actions",
        "max_duration_ms",
        "late_days",
        "input_timezone",
        "reporting_timezone",
        "timestamp_formats",
    )
    actions = list(settings.allowed_actions)
    day_of = settings.reporting_timezone
    longest_day_ms = 86_400_000 if day_of == "UTC" else 90_000_000  # the day the clock goes back has 25 hours
    version = {
        "valid_from": _column(DATE, "Landing date of the users file that said so first."),
        "user_id": _column(STRING, "User, trimmed."),
        "join_date": _column(DATE, "Day the user joined.", nullable=True),
        **{name: _text(f"`{name}` of the user; null where empty.") for name in attributes(settings.segments)},
    }
    active_users_ordered = Rule(
        "active_users_ordered",
        "DAU <= WAU <= MAU28 <= MAU30",
        lambda: (
            (F.col("daily_active_users") <= F.col("weekly_active_users"))
            & (F.col("weekly_active_users") <= F.col("monthly_active_users_28d"))
            & (F.col("monthly_active_users_28d") <= F.col("monthly_active_users_30d"))
        ),
    )
    tables = (
        Table(
            name="bronze.interactions",
            description="Every delivered interaction row as text, nothing dropped; one day is one landing date.",
            schema=_schema(**_delivered("interactions")),
            partition_column="landing_date",
            calendar="landings",
        ),
        Table(
            name="bronze.users",
            description="Every delivered user row as text, nothing dropped; one day is one landing date.",
            schema=_schema(**_delivered("users")),
            partition_column="landing_date",
            calendar="users",
            by_month=True,
        ),
        Table(
            name="silver.rejected_interactions",
            description="Rows that did not qualify, as delivered, each with the first reason that holds.",
            schema=_schema(
                **_delivered("interactions"),
                reason=_column(STRING, "Why the row was rejected.", pa.Check.isin(list(REJECT_REASONS))),
            ),
            partition_column="landing_date",
            calendar="landings",
            inputs=(Input("bronze.interactions"),),
            settings=cleaning,
            version=2,
        ),
        Table(
            name="silver.interaction_routing",
            description="How many rows of a landing date went to which event date, or were rejected for which reason.",
            schema=_schema(
                landing_date=_column(DATE, "Day the rows were delivered under."),
                event_date=_column(DATE, "Day the rows belong to; null for rejected rows.", nullable=True),
                reason=_text("Reject reason; null for routed rows.", pa.Check.isin(list(REJECT_REASONS))),
                delivered_rows=_count("Rows."),
            ),
            partition_column="landing_date",
            calendar="landings",
            inputs=(Input("bronze.interactions"),),
            key=("landing_date", "event_date", "reason"),
            rules=(
                Rule(
                    "routed_or_rejected",
                    "a row has an event date or a reason, not both",
                    lambda: F.col("event_date").isNull() != F.col("reason").isNull(),
                ),
            ),
            by_month=True,
            settings=cleaning,
            version=2,
        ),
        Table(
            name="silver.interactions",
            description="Valid, deduplicated interactions of an event date.",
            schema=_schema(
                event_date=_column(DATE, "Calendar day of the event in the reporting time zone."),
                user_id=_column(STRING, "User, trimmed."),
                timestamp=_column(TIMESTAMP, "Instant of the event."),
                action_type=_column(STRING, "What the user did.", pa.Check.isin(actions, title="allowed_actions")),
                page_id=_text("Page; null where none was delivered."),
                duration_ms=_column(
                    BIGINT,
                    "How long it took, in ms.",
                    pa.Check.in_range(0, settings.max_duration_ms, title="duration_within_limits"),
                ),
                app_version=_text("App version; null where none was delivered."),
                landing_date=_column(DATE, "Day the surviving row was delivered under."),
                duplicates=_count("Rows with the same key that this one stands for, beside itself."),
            ),
            partition_column="event_date",
            inputs=(Input("bronze.interactions", -ahead, late), Input("silver.interaction_routing", -ahead, late)),
            checks=("duration_within_limits", NO_DUPLICATE_KEY, "allowed_actions", IN_ITS_PARTITION),
            key=("event_date", "user_id", "timestamp", "action_type", "page_id"),
            rules=(
                Rule(
                    IN_ITS_PARTITION,
                    "event_date is the timestamp's day; delivered on it, here or in UTC, or at most late_days later",
                    lambda: (
                        (F.col("event_date") == calendar_day(F.col("timestamp"), day_of))
                        & F.col("landing_date").between(
                            earliest_landing_date(F.col("event_date"), F.col("timestamp"), day_of),
                            F.date_add("event_date", late),
                        )
                    ),
                ),
            ),
            settings=cleaning,
            version=2,
        ),
        Table(
            name="silver.interaction_counts",
            description="What became of every row: delivered = rejected + routed, arrived = accepted + duplicates.",
            schema=_schema(
                date=_column(DATE, "The day, as a landing date and as an event date."),
                delivered_rows=_count("Rows in the files of this landing date."),
                rejected_rows=_count("Rows of this landing date that were rejected."),
                routed_rows=_count("Rows of this landing date that went to an event date."),
                arrived_rows=_count("Rows of any landing date that belong to this event date."),
                accepted_rows=_count("Interactions of this event date."),
                duplicate_rows=_count("Duplicates of this event date."),
            ),
            partition_column="date",
            inputs=(
                Input("bronze.interactions"),
                Input("silver.rejected_interactions"),
                Input("silver.interaction_routing", -ahead, late),
                Input("silver.interactions"),
            ),
            checks=("rows_reconcile",),
            key=("date",),
            rules=(
                Rule(
                    "rows_reconcile",
                    "delivered = rejected + routed, and arrived = accepted + duplicates",
                    lambda: (
                        (F.col("delivered_rows") == F.col("rejected_rows") + F.col("routed_rows"))
                        & (F.col("arrived_rows") == F.col("accepted_rows") + F.col("duplicate_rows"))
                    ),
                ),
            ),
            by_month=True,
        ),
        Table(
            name="silver.rejected_users",
            description="Rows of users' files that can't be used, as delivered, each with the first reason that holds.",
            schema=_schema(
                **_delivered("users"),
                reason=_column(STRING, "Why the row was rejected.", pa.Check.isin(list(USER_REJECT_REASONS))),
            ),
            partition_column="landing_date",
            calendar="users",
            inputs=(Input("bronze.users"),),
            by_month=True,
        ),
        Table(
            name="silver.user_counts",
            description="What became of every row of users' files: delivered = rejected + duplicates + kept.",
            schema=_schema(
                date=_column(DATE, "Landing date."),
                delivered_rows=_count("Rows in the users' files of this landing date."),
                rejected_rows=_count("Rows of this landing date that were rejected."),
                duplicate_rows=_count("Valid rows of a user beside the one that counts, in all files of the date."),
                kept_rows=_count("Users of this landing date, one row each: what `silver.user_changes` goes by."),
            ),
            partition_column="date",
            calendar="users",
            inputs=(Input("bronze.users"), Input("silver.rejected_users")),
            checks=("rows_reconcile",),
            key=("date",),
            rules=(
                Rule(
                    "rows_reconcile",
                    "delivered = rejected + duplicates + kept",
                    lambda: (
                        F.col("delivered_rows") == F.col("rejected_rows") + F.col("duplicate_rows") + F.col("kept_rows")
                    ),
                ),
            ),
            by_month=True,
        ),
        Table(
            name="silver.user_changes",
            description="Versions of users by the day they begin: rows of a users file that say something new.",
            schema=_schema(**version),
            partition_column="valid_from",
            calendar="users",
            inputs=(Input("bronze.users"), Input("silver.user_changes", EVER, -1)),
            key=("valid_from", "user_id"),
            by_month=True,
            settings=("segments",),
            version=2,
        ),
        Table(
            name="silver.users",
            description="Users over time, sorted by country: each version with its first day and the day it ended.",
            schema=_schema(
                **version,
                valid_to=_column(DATE, "First day of the user's next version; null without one.", nullable=True),
                is_current=_column(BOOLEAN, "Whether it is the user's newest version."),
            ),
            partition_column="valid_from",
            calendar="users",
            inputs=(Input("silver.user_changes", 0, -EVER),),  # a later delivery ends a version
            checks=(NO_DUPLICATE_KEY, "versions_end_after_they_begin"),
            key=("valid_from", "user_id"),
            rules=(
                Rule(
                    "versions_end_after_they_begin",
                    "valid_from < valid_to, and a version without valid_to is current",
                    lambda: (
                        F.coalesce(F.col("valid_from") < F.col("valid_to"), F.lit(True))
                        & (F.col("is_current") == F.col("valid_to").isNull())
                    ),
                ),
            ),
            by_month=True,
            sorted_by=("country",),
            settings=("segments",),
        ),
        Table(
            name="silver.user_days",
            description="One row per active user and day; every active-user metric comes from it.",
            schema=_schema(
                event_date=_column(DATE, "Day."),
                user_id=_column(STRING, "User."),
                actions=_column(BIGINT, "Accepted interactions.", pa.Check.ge(1)),
                **{action_column(name): _count(f"Accepted interactions of type `{name}`.") for name in actions},
                duration_ms=_count("Sum of duration_ms, in ms."),
                first_timestamp=_column(TIMESTAMP, "First instant of the day."),
                last_timestamp=_column(TIMESTAMP, "Last instant of the day."),
            ),
            partition_column="event_date",
            inputs=(Input("silver.interactions"),),
            key=("event_date", "user_id"),
            settings=("allowed_actions",),
        ),
        Table(
            name="silver.user_version_days",
            description="One row per active user, day and app version.",
            schema=_schema(
                event_date=_column(DATE, "Day."),
                user_id=_column(STRING, "User."),
                app_version=_text("App version; null where none was delivered."),
                actions=_column(BIGINT, "Accepted interactions.", pa.Check.ge(1)),
            ),
            partition_column="event_date",
            inputs=(Input("silver.interactions"),),
            key=("event_date", "user_id", "app_version"),
        ),
        Table(
            name="silver.duration_classes",
            description="Actions by app version, type and class of duration: days and versions can be added up.",
            schema=_schema(
                date=_column(DATE, "Day."),
                app_version=_column(STRING, "App version; `unknown` where none was delivered."),
                action_type=_column(STRING, "What the users did.", pa.Check.isin(actions)),
                duration_from_ms=_count("Least duration of the class, in ms: its six leading binary digits."),
                actions=_column(BIGINT, "Accepted interactions.", pa.Check.ge(1)),
            ),
            partition_column="date",
            inputs=(Input("silver.interactions"),),
            key=("date", "app_version", "action_type", "duration_from_ms"),
            by_month=True,
        ),
        Table(
            name="silver.user_first_days",
            description="Users on the first day they were ever active; each user stands in it once.",
            schema=_schema(
                first_date=_column(DATE, "First active day ever."),
                user_id=_column(STRING, "User."),
            ),
            partition_column="first_date",
            inputs=(Input("silver.user_days"), Input("silver.user_first_days", EVER, -1)),
            key=("first_date", "user_id"),
            by_month=True,
        ),
        Table(
            name="gold.daily_metrics",
            description="Active users of the day and of rolling windows, actions and mean duration, one row a day.",
            schema=_schema(
                date=_column(DATE, "Day."),
                daily_active_users=_count("DAU: distinct users active on the day."),
                total_actions=_count("Accepted interactions."),
                avg_duration_ms=_column(
                    DOUBLE, "Mean duration_ms of accepted interactions, in ms.", _at_least_zero(), nullable=True
                ),
                weekly_active_users=_count("WAU: distinct users of the 7 days that end on the day."),
                monthly_active_users_28d=_count("Distinct users of the 28 days that end on the day."),
                monthly_active_users_30d=_count("Distinct users of the 30 days that end on the day."),
                stickiness=_column(DOUBLE, "DAU / MAU30.", _share(), nullable=True),
            ),
            partition_column="date",
            inputs=(Input("silver.user_days", -29, 0),),
            checks=("active_users_ordered",),
            key=("date",),
            rules=(active_users_ordered,),
            by_month=True,
        ),
        Table(
            name="gold.monthly_metrics",
            description="Calendar month to date; the month's figure stands on its last day.",
            schema=_schema(
                date=_column(DATE, "Day the row counts up to."),
                month_date=_column(DATE, "First day of the month."),
                monthly_active_users=_count("Distinct users of the month to date."),
                total_monthly_actions=_count("Accepted interactions of the month to date."),
                avg_duration_ms=_column(
                    DOUBLE, "Mean duration_ms of the month to date, in ms.", _at_least_zero(), nullable=True
                ),
            ),
            partition_column="date",
            # the longest way back to the first of a month
            inputs=(Input("silver.user_days", -30, 0, within="month"),),
            key=("date",),
            by_month=True,
        ),
        Table(
            name="gold.lifecycle_metrics",
            description="New, returning, resurrecting, dormant users of the day, the ISO week and the month to date.",
            schema=_schema(
                date=_column(DATE, "Day the row counts up to."),
                period=_column(STRING, "Length of the period.", pa.Check.isin(list(PERIODS))),
                period_date=_column(DATE, "First day of the period: the day, its Monday, or the first of its month."),
                active_users=_count("Distinct users of the period to date."),
                new_users=_count("Of these, users who had never been active before the period."),
                returning_users=_count("Of these, users of the period before."),
                resurrecting_users=_count("Of these, users from before who were not active in the period before."),
                dormant_users=_count("Users of the period before who have not been active in this one so far."),
                active_users_before=_count("Distinct users of the whole period before."),
            ),
            partition_column="date",
            inputs=(
                # the longest way back to the first of the month before, and to the first of a month
                Input("silver.user_days", -61, 0),
                Input("silver.user_first_days", -30, 0),
            ),
            checks=("active_users_add_up", "change_adds_up"),
            key=("date", "period"),
            rules=(
                Rule(
                    "active_users_add_up",
                    "new + returning + resurrecting = active",
                    lambda: (
                        F.col("new_users") + F.col("returning_users") + F.col("resurrecting_users")
                        == F.col("active_users")
                    ),
                ),
                Rule(
                    "change_adds_up",
                    "active in the period before + new + resurrecting - dormant = active",
                    lambda: (
                        F.col("active_users_before")
                        + F.col("new_users")
                        + F.col("resurrecting_users")
                        - F.col("dormant_users")
                        == F.col("active_users")
                    ),
                ),
            ),
            by_month=True,
        ),
        Table(
            name="gold.l28_histogram",
            description="How many users were active on k of the 28 days that end on the day, k = 1 … 28.",
            schema=_schema(
                date=_column(DATE, "Last of the 28 days."),
                active_days=_column(BIGINT, "Days of the 28 with activity.", pa.Check.in_range(1, L28_DAYS)),
                users=_count("Users with exactly that many active days."),
            ),
            partition_column="date",
            inputs=(Input("silver.user_days", 1 - L28_DAYS, 0),),
            key=("date", "active_days"),
            by_month=True,
        ),
        Table(
            name="gold.weekly_metrics",
            description="ISO week to date; the week's figure stands on its Sunday.",
            schema=_schema(
                date=_column(DATE, "Day the row counts up to."),
                week_date=_column(DATE, "Monday of the week."),
                weekly_active_users=_count("Distinct users of the week to date."),
                total_weekly_actions=_count("Accepted interactions of the week to date."),
                avg_duration_ms=_column(
                    DOUBLE, "Mean duration_ms of the week to date, in ms.", _at_least_zero(), nullable=True
                ),
            ),
            partition_column="date",
            inputs=(Input("silver.user_days", -6, 0, within="week"),),
            key=("date",),
            by_month=True,
        ),
        Table(
            name="gold.action_metrics",
            description="Users and actions of each action type and day.",
            schema=_schema(
                date=_column(DATE, "Day."),
                action_type=_column(STRING, "What the users did.", pa.Check.isin(actions)),
                users=_count("Distinct users who did it."),
                actions=_count("How often they did, accepted interactions."),
            ),
            partition_column="date",
            inputs=(Input("silver.user_days"),),
            checks=("users_within_actions",),
            key=("date", "action_type"),
            rules=(
                Rule(
                    "users_within_actions",
                    "users <= actions",
                    lambda: F.col("users") <= F.col("actions"),
                ),
            ),
            by_month=True,
            settings=("allowed_actions",),
        ),
        Table(
            name="gold.power_users",
            description="The top 1 % (rounded up) of users by duration over 30 days; ties at the edge are all in.",
            schema=_schema(
                date=_column(DATE, "Last of the 30 days."),
                user_id=_column(STRING, "User."),
                duration_ms_30d=_count("Sum of duration_ms over the 30 days, in ms."),
                duration_rank=_column(BIGINT, "Place by that sum; equal sums share the first.", pa.Check.ge(1)),
            ),
            partition_column="date",
            inputs=(Input("silver.user_days", 1 - POWER_DAYS, 0),),
            key=("date", "user_id"),
            by_month=True,
        ),
        Table(
            name="gold.retention_weekly",
            description="Weekly cohorts, by first activity and by join date, and who of them was active in the week.",
            schema=_schema(
                date=_column(DATE, "Day; a week's figures stand on its Sunday."),
                cohort_by=_column(STRING, "What makes a cohort.", pa.Check.isin(list(COHORTS))),
                cohort_week=_column(DATE, "Monday of the week the cohort joined in."),
                week_number=_column(BIGINT, "Weeks from that one to the day's.", pa.Check.in_range(0, WEEKS)),
                cohort_users=_column(BIGINT, "Users who joined in that week, by the day.", pa.Check.ge(1)),
                users=_column(
                    BIGINT, "Of these, users active in the week; null until its Sunday.", pa.Check.ge(0), nullable=True
                ),
                rate=_column(DOUBLE, "users / cohort_users.", _share(), nullable=True),
            ),
            partition_column="date",
            inputs=(
                Input("silver.user_days", -6, 0),
                Input("silver.user_first_days", -7 * WEEKS - 6, 0),
                Input("silver.user_changes", EVER, 0, as_of=True),
            ),
            checks=("known_on_sundays",),
            key=("date", "cohort_by", "cohort_week", "week_number"),
            rules=(
                Rule(
                    "known_on_sundays",
                    "users and rate are null but on Sundays",
                    lambda: (
                        # not `weekday`, which is -1 on Sundays in Sail
                        (F.col("users").isNotNull() == (F.dayofweek("date") == 1))
                        & (F.col("users").isNull() == F.col("rate").isNull())
                    ),
                ),
            ),
            by_month=True,
        ),
        Table(
            name="gold.session_metrics",
            description="One row per session: a user's actions without 30 minutes of silence or a midnight between.",
            schema=_schema(
                session_id=_column(STRING, "`<user_id>_<YYYYMMDD>_<n>`, n counting from 0 in order of start."),
                user_id=_column(STRING, "User."),
                session_date=_column(DATE, "Day all rows of the session share."),
                session_start_time=_column(TIMESTAMP, "First instant."),
                session_end_time=_column(TIMESTAMP, "Last instant."),
                actions_per_session=_column(BIGINT, "Accepted interactions.", pa.Check.ge(1)),
                session_duration_ms=_count("Sum of duration_ms, in ms."),
                session_span_ms=_column(
                    BIGINT, "Last instant minus first, in ms.", pa.Check.in_range(0, longest_day_ms - 1)
                ),
                first_action_type=_column(STRING, "What it began with.", pa.Check.isin(actions)),
                last_action_type=_column(STRING, "What it ended with.", pa.Check.isin(actions)),
            ),
            partition_column="session_date",
            inputs=(Input("silver.interactions"),),
            key=("session_date", "session_id"),
            rules=(
                Rule(
                    IN_ITS_PARTITION,
                    "a session begins and ends on its session_date",
                    lambda: (
                        (F.col("session_date") == calendar_day(F.col("session_start_time"), day_of))
                        & (F.col("session_date") == calendar_day(F.col("session_end_time"), day_of))
                    ),
                ),
            ),
            settings=("session_gap_seconds", "reporting_timezone"),
            version=2,
        ),
        Table(
            name="gold.session_distribution",
            description="How many sessions users have on a day, and what sessions begin and end with.",
            schema=_schema(
                date=_column(DATE, "Day."),
                measure=_column(STRING, "What is counted.", pa.Check.isin(list(MEASURES))),
                value=_column(STRING, "A number of sessions, or an action type."),
                amount=_column(
                    BIGINT, "Users with so many sessions, or sessions that begin or end with it.", pa.Check.ge(1)
                ),
            ),
            partition_column="date",
            inputs=(Input("gold.session_metrics"),),
            key=("date", "measure", "value"),
            by_month=True,
        ),
        Table(
            name="gold.daily_session_metrics",
            description="Sessions of a day: how many, how long, how deep; percentiles are spans that occurred.",
            schema=_schema(
                date=_column(DATE, "Day."),
                sessions=_count("Sessions."),
                avg_actions_per_session=_column(DOUBLE, "Mean actions.", _at_least_zero(), nullable=True),
                avg_session_duration_ms=_column(
                    DOUBLE, "Mean session_duration_ms, in ms.", _at_least_zero(), nullable=True
                ),
                avg_session_span_ms=_column(
                    DOUBLE, "Mean session_span_ms, in ms, to the microsecond.", _at_least_zero(), nullable=True
                ),
                p50_session_span_ms=_column(BIGINT, "Median span, in ms.", _at_least_zero(), nullable=True),
                p95_session_span_ms=_column(
                    BIGINT, "95th percentile of spans, in ms.", _at_least_zero(), nullable=True
                ),
                single_action_rate=_column(
                    DOUBLE, "Share of sessions with one action, to six decimals.", _share(), nullable=True
                ),
            ),
            partition_column="date",
            inputs=(Input("gold.session_metrics"),),
            key=("date",),
            by_month=True,
        ),
        Table(
            name="gold.segment_metrics",
            description="Active users, actions and sessions by what users are and which app version they use.",
            schema=_schema(
                date=_column(DATE, "Day."),
                segment=_column(STRING, "What divides the users.", pa.Check.isin(list(settings.segments))),
                value=_column(STRING, "Its value; `unknown` for users in no file and where it is empty."),
                daily_active_users=_count("DAU: distinct users active on the day."),
                weekly_active_users=_count("WAU: distinct users of the 7 days that end on the day."),
                monthly_active_users_28d=_count("Distinct users of the 28 days that end on the day."),
                monthly_active_users_30d=_column(
                    BIGINT, "Distinct users of the 30 days that end on the day.", pa.Check.ge(1)
                ),
                total_actions=_count("Accepted interactions of the day."),
                sessions=_count("Sessions of the day's users."),
            ),
            partition_column="date",
            inputs=(
                Input("silver.user_version_days", 1 - LONGEST_DAYS, 0),
                Input("gold.session_metrics"),
                Input("silver.user_changes", EVER, 0, as_of=True),
            ),
            checks=("active_users_ordered",),
            key=("date", "segment", "value"),
            rules=(active_users_ordered,),
            by_month=True,
            settings=("segments",),
        ),
        Table(
            name="gold.version_performance",
            description="How long actions take by app version and type: exact for the day, by classes for 28 days.",
            schema=_schema(
                date=_column(DATE, "Day."),
                app_version=_column(STRING, "App version; `unknown` where none was delivered."),
                action_type=_column(STRING, "What the users did.", pa.Check.isin(actions)),
                actions=_count("Accepted interactions of the day."),
                avg_duration_ms=_column(DOUBLE, "Mean duration_ms of the day, in ms.", _at_least_zero(), nullable=True),
                **{
                    f"p{percent}_duration_ms": _column(
                        BIGINT,
                        f"{percent}th percentile of the day's durations, in ms.",
                        _at_least_zero(),
                        nullable=True,
                    )
                    for percent in PERCENTS
                },
                actions_28d=_column(
                    BIGINT, "Accepted interactions of the 28 days that end on the day.", pa.Check.ge(1)
                ),
                **{
                    f"p{percent}_duration_ms_28d": _count(
                        f"{percent}th percentile of the 28 days' durations, in ms, to 1/64 of it."
                    )
                    for percent in PERCENTS
                },
            ),
            partition_column="date",
            inputs=(Input("silver.interactions"), Input("silver.duration_classes", 1 - WINDOW_DAYS, 0)),
            key=("date", "app_version", "action_type"),
            by_month=True,
        ),
        Table(
            name="gold.segment_performance",
            description="Whether a segment's users have longer durations than the others, with a confidence interval.",
            schema=_schema(
                date=_column(DATE, "Day."),
                segment=_column(STRING, "What divides the users.", pa.Check.isin(user_segments(settings.segments))),
                value=_column(STRING, "Its value; `unknown` for users in no file and where it is empty."),
                users=_column(BIGINT, "Distinct users active on the day.", pa.Check.ge(1)),
                avg_duration_ms=_column(DOUBLE, "Mean duration_ms of their actions, in ms.", _at_least_zero()),
                duration_correlation=_column(
                    DOUBLE,
                    "Spearman's correlation between being in the segment and a user's mean duration.",
                    _correlation(),
                    nullable=True,
                ),
                duration_correlation_low=_column(
                    DOUBLE, "Lower end of its 95 % confidence interval.", _correlation(), nullable=True
                ),
                duration_correlation_high=_column(
                    DOUBLE, "Upper end of its 95 % confidence interval.", _correlation(), nullable=True
                ),
            ),
            partition_column="date",
            inputs=(Input("silver.user_days"), Input("silver.user_changes", EVER, 0, as_of=True)),
            key=("date", "segment", "value"),
            by_month=True,
            settings=("segments",),
            version=2,
        ),
        Table(
            name="gold.anomalies",
            description="Metrics of a day beside what their weekday and trend let expect, and whether that is unusual.",
            schema=_schema(
                date=_column(DATE, "Day."),
                metric=_column(
                    STRING,
                    "Column of gold.daily_metrics or gold.daily_session_metrics.",
                    pa.Check.isin([*DAILY_METRICS, *SESSION_METRICS]),
                ),
                value=_column(DOUBLE, "Its value.", nullable=True),
                expected_value=_column(
                    DOUBLE, "What was to be expected; null while the history is too short.", nullable=True
                ),
                lower_bound=_column(DOUBLE, "Least value that is not unusual.", nullable=True),
                upper_bound=_column(DOUBLE, "Greatest value that is not unusual.", nullable=True),
                deviation=_column(DOUBLE, "Distance from the expected value, in usual distances.", nullable=True),
                is_anomaly=_column(BOOLEAN, "Whether the value is outside the bounds.", nullable=True),
            ),
            partition_column="date",
            inputs=(
                Input("gold.daily_metrics", -HISTORY_DAYS, 0),
                Input("gold.daily_session_metrics", -HISTORY_DAYS, 0),
            ),
            key=("date", "metric"),
            by_month=True,
            version=2,
        ),
    )
    return {table.name: table for table in tables}


def selected(declared: Mapping[str, Table], names: Sequence[str]) -> Mapping[str, Table]:
    """The named tables and all they are computed from, in the order of ``declared``; no name means every table.

    Raises:
        SettingsError: there is no such table.
    """
    unknown = [name for name in names if name not in declared]
    if unknown:
        raise SettingsError(f"LAKEHOUSE_TABLES names {unknown[0]!r}; there are {', '.join(declared)}")
    wanted = set(names or declared)
    for table in reversed(list(declared.values())):
        if table.name in wanted:
            wanted |= {i.table for i in table.inputs}
    return {name: table for name, table in declared.items() if name in wanted}


def settings_of(table: Table, settings: Settings) -> dict[str, Any]:
    """The settings, by name, that change the content of a table."""
    return {name: getattr(settings, name) for name in table.settings}
