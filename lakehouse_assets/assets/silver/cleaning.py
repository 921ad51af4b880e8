"""Every delivered interaction gets its event date or the reason it is rejected for (docs/metrics: cleaning)."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.texts import first_reason, trimmed
from lakehouse_assets.settings import Cleaning
from lakehouse_assets.timestamps import BLANKS, EPOCH, MONTHS, TAIL, WALL, WALL_TIME, Format, formats_of

# The order is the rule: a row gets the first reason that holds.
REJECT_REASONS = (
    "malformed_row",
    "missing_user_id",
    "bad_timestamp",
    "unknown_action",
    "bad_duration",
    "negative_duration",
    "duration_over_limit",
    "future_event",
    "late_event",
)

_MICROSECONDS_PER_DAY = 86_400_000_000
_WHOLE_NUMBER = r"^\s*[+-]?[0-9]+\s*$"
_WHOLE_AS_DECIMAL = r"^[ \t]*[+-]?[0-9]+[.]0+[ \t]*$"  # `100.0`: what tools make of whole numbers in a column with gaps


def parse_instant(text: Column, input_timezone: str, formats: Sequence[str] = ()) -> Column:
    """The instant a text names, or null where it names none; `timestamps` says how it may be written.

    A text without an offset is read in ``input_timezone``. The zone is always spelled out in the cast, so the session's
    own never matters. A local time that a clock change skips is no instant. Of a fraction microseconds count.

    Args:
        text: as delivered.
        input_timezone: zone of texts without an offset.
        formats: further formats; they go first, in this order.
    """
    bare = F.trim(text, F.lit(BLANKS))
    tail = F.substring(bare, WALL + 1, 40)
    with_tail = _at(
        F.substring(bare, 1, WALL),
        F.regexp_extract(tail, f"^{TAIL}", 1),
        F.regexp_extract(tail, f"^{TAIL}", 2),
        input_timezone,
    )
    # what most rows are is told by one expression; only others pay for more
    built_in = (
        F.when(text.rlike(f"^{WALL_TIME}\\z"), _local(text, input_timezone))
        .when(bare.rlike(f"^{WALL_TIME}{TAIL}\\z"), with_tail)
        .otherwise(_since_1970(bare))
    )
    if not formats:
        return built_in
    return F.coalesce(*[_formatted(bare, one, input_timezone) for one in formats_of(formats)], built_in)


def _number(digits: Column) -> Column:
    return digits.try_cast("bigint")  # an engine may look at rows that a condition leaves out


def _as_utc(wall: Column) -> Column:
    return F.concat(wall, F.lit("Z")).try_cast("timestamp")


def _local(wall: Column, zone: str) -> Column:
    """The instant of a wall time in a zone, or null where the zone's clocks skip it."""
    as_utc = _as_utc(wall)
    if zone == "UTC":
        return as_utc
    zoned = F.concat(wall, F.lit(f" {zone}")).try_cast("timestamp")
    # a skipped local time is moved by the cast, so it does not read back as the wall time it was
    return F.when(F.from_utc_timestamp(zoned, zone) == as_utc, zoned)


def _at(wall: Column, fraction: Column, offset: Column, input_timezone: str) -> Column:
    """The instant of a wall time with a fraction (its dot with it, or empty) and a zone (or empty)."""
    wall = F.concat(wall, fraction)
    digits = F.rpad(F.regexp_replace(offset, "[^0-9]", ""), 4, "0")
    seconds = _number(F.substring(digits, 1, 2)) * 3600 + _number(F.substring(digits, 3, 2)) * 60
    ahead = F.when(offset.startswith("-"), -seconds).otherwise(seconds)
    in_zone = F.timestamp_micros(F.unix_micros(_as_utc(wall)) - ahead * 1_000_000)
    return F.when(offset == "", _local(wall, input_timezone)).otherwise(in_zone)


def _since_1970(text: Column) -> Column:
    """The instant that a number of seconds, ms, us or ns since 1970 names; of ns the last three digits don't count."""
    whole, fraction = F.regexp_extract(text, f"^{EPOCH}\\z", 1), F.regexp_extract(text, f"^{EPOCH}\\z", 2)
    digits = F.concat(whole, F.substring(fraction, 2, 9))
    padded = F.when(F.length(whole) % 3 == 1, F.rpad(digits, 16, "0")).otherwise(F.rpad(digits, 15, "0"))
    return F.timestamp_micros(F.when(whole != "", _number(padded)))


def _formatted(text: Column, form: Format, input_timezone: str) -> Column:
    """The instant of a text that is written in a format, or null."""
    expression = f"^{form.expression}\\z"

    def said(field: str, default: str = "0") -> Column:
        if field not in form.fields:
            return F.lit(default)
        return F.regexp_extract(text, expression, form.fields.index(field) + 1)

    def two_digits(number: Column) -> Column:
        return F.lpad(number, 2, "0")

    year = said("Y")
    if "y" in form.fields:
        year = F.concat(F.when(said("y") < "69", F.lit("20")).otherwise(F.lit("19")), said("y"))
    month = said("m")
    if "b" in form.fields:
        place = F.instr(F.lit(MONTHS), F.lower(F.substring(said("b"), 1, 3)))
        month = F.when(place % 3 == 1, F.call_function("div", place + 2, F.lit(3)).cast("string"))
    hour = said("H")
    if "I" in form.fields:
        afternoon = F.when(F.lower(said("p")) == "pm", F.lit(12)).otherwise(F.lit(0))
        hour = (_number(said("I")) % 12 + afternoon).cast("string")
    clock = F.concat_ws(":", *map(two_digits, (hour, said("M"), said("S"))))
    wall = F.concat(year, F.lit("-"), two_digits(month), F.lit("-"), two_digits(said("d")), F.lit(" "), clock)
    fraction = F.concat(F.lit("."), said("f")) if "f" in form.fields else F.lit("")
    return F.when(text.rlike(expression), _at(wall, fraction, said("z", ""), input_timezone))


def calendar_day(instant: Column, reporting_timezone: str) -> Column:
    """The calendar day of an instant in ``reporting_timezone``, whatever zone the session runs in."""
    local = instant if reporting_timezone == "UTC" else F.from_utc_timestamp(instant, reporting_timezone)
    micros, a_day = F.unix_micros(local), F.lit(_MICROSECONDS_PER_DAY)
    return F.date_from_unix_date(F.call_function("div", micros - F.pmod(micros, a_day), a_day).cast("int"))


def earliest_landing_date(event_date: Column, instant: Column, reporting_timezone: str) -> Column:
    """The first landing date that a row may have: its day in ``reporting_timezone`` or in UTC, the earlier of both."""
    return event_date if reporting_timezone == "UTC" else F.least(event_date, calendar_day(instant, "UTC"))


def _computed_once(frame: DataFrame, **columns: Column) -> DataFrame:
    """The frame with further columns that later filters and columns can use without computing them again.

    The optimizer copies an expression to wherever its column is used, into a filter for every use in it. One that may
    be another each time it leaves where it is; a random number, below 1, never is 2, which no optimizer finds out.
    """
    return frame.withColumns({name: F.when(F.rand(0) != 2, column) for name, column in columns.items()})


def classify(bronze: DataFrame, cleaning: Cleaning) -> DataFrame:
    """Give every delivered row its event date or its reject reason.

    Args:
        bronze: user_id, timestamp, action_type, page_id, duration_ms, app_version, malformed_row (text as delivered)
            and landing_date (date); further columns are kept.
        cleaning: which rows count. A file of a UTC day holds hours of the reporting zone's next day, so an event counts
            as one of the future only if its day in UTC is after the landing date too.

    Returns:
        The input with event_time (timestamp), duration (whole ms, bigint), event_date (date) and reason (one of
        `REJECT_REASONS`, null for a valid row).
    """
    text = F.col("duration_ms")
    decimal = text.contains(".") & text.rlike(_WHOLE_AS_DECIMAL)  # the expression is only paid for by texts with a dot
    text = F.when(decimal, F.substring_index(text, ".", 1)).otherwise(text)
    duration = text.try_cast("bigint")
    # a whole number too long for 64 bits is still a whole number: its sign decides
    oversized = duration.isNull() & text.rlike(_WHOLE_NUMBER)
    negative_text = F.ltrim("duration_ms").startswith("-")
    instant = parse_instant(F.col("timestamp"), cleaning.input_timezone, cleaning.timestamp_formats)
    parsed = _computed_once(bronze, event_time=instant, duration=duration)
    dated = _computed_once(parsed, event_date=calendar_day(F.col("event_time"), cleaning.reporting_timezone))
    earliest_delivery = earliest_landing_date(F.col("event_date"), F.col("event_time"), cleaning.reporting_timezone)
    holds = {
        "malformed_row": F.col("malformed_row").isNotNull(),
        "missing_user_id": F.coalesce(trimmed("user_id"), F.lit("")) == "",
        "bad_timestamp": F.col("event_time").isNull(),
        "unknown_action": ~F.coalesce(trimmed("action_type").isin(*cleaning.allowed_actions), F.lit(False)),
        "bad_duration": F.col("duration").isNull() & ~F.coalesce(oversized, F.lit(False)),
        "negative_duration": (F.col("duration") < 0) | (F.col("duration").isNull() & negative_text),
        "duration_over_limit": (F.col("duration") > cleaning.max_duration_ms) | F.col("duration").isNull(),
        "future_event": earliest_delivery > F.col("landing_date"),
        "late_event": F.col("event_date") < F.date_sub("landing_date", cleaning.late_days),
    }
    return _computed_once(dated, reason=first_reason(REJECT_REASONS, holds))
