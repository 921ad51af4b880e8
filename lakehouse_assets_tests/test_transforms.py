"""The transforms one by one, at the edges of docs/metrics that the golden cases don't need."""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from lakehouse_assets.assets.gold import segment_steps
from lakehouse_assets.assets.gold.daily_metrics import daily_metrics
from lakehouse_assets.assets.gold.daily_session_metrics import daily_session_metrics
from lakehouse_assets.assets.gold.monthly_metrics import monthly_metrics
from lakehouse_assets.assets.gold.segment_metrics import segment_metrics
from lakehouse_assets.assets.gold.session_metrics import session_metrics
from lakehouse_assets.assets.silver import cleaning
from lakehouse_assets.assets.silver.interaction_counts import interaction_counts
from lakehouse_assets.assets.silver.rejected_users import judged, rejected_users
from lakehouse_assets.assets.silver.user_changes import user_changes
from lakehouse_assets.assets.silver.user_counts import user_counts
from lakehouse_assets.assets.silver.user_days import user_days
from lakehouse_assets.assets.table import declare
from lakehouse_assets.assets.users_as_of import DELIVERED_ATTRIBUTES, UsersAsOf
from lakehouse_assets.calendar import Days
from lakehouse_assets.settings import Cleaning, load_settings
from lakehouse_assets.timestamps import WALL_TIME

ACTIONS = ("page_view", "edit", "create", "delete", "share")
DAY = date(2024, 3, 10)
TEXT, WHOLE, DATE, INSTANT = pa.string(), pa.int64(), pa.date32(), pa.timestamp("us", "UTC")
INTERACTIONS = {"event_date": DATE, "user_id": TEXT, "timestamp": INSTANT, "action_type": TEXT, "duration_ms": WHOLE}
USER_DAYS = {"event_date": DATE, "user_id": TEXT, "actions": WHOLE, "duration_ms": WHOLE}
SESSIONS = {"session_date": DATE, "session_span_ms": WHOLE, "actions_per_session": WHOLE, "session_duration_ms": WHOLE}
USERS = dict.fromkeys(("user_id", "join_date", "country", "device_type", "subscription_type", "malformed_row"), TEXT)


def frame(spark: SparkSession, schema: Mapping[str, pa.DataType], *rows: Sequence[Any]) -> DataFrame:
    named = [dict(zip(schema, row, strict=True)) for row in rows]
    table = pa.Table.from_pylist(named, pa.schema(list(schema.items())))
    return spark.createDataFrame(table, from_arrow_schema(table.schema))


def rows(found: DataFrame) -> list[dict[str, Any]]:
    return sorted(found.toArrow().to_pylist(), key=str)


@pytest.fixture(params=["UTC", "Pacific/Auckland"])
def session_zone(spark: SparkSession, request: pytest.FixtureRequest) -> Iterator[str]:
    """Nothing may depend on the time zone of the Spark session."""
    spark.conf.set("spark.sql.session.timeZone", request.param)
    yield request.param
    spark.conf.set("spark.sql.session.timeZone", "UTC")


def parsed(spark: SparkSession, texts: Sequence[str], input_zone: str, report_zone: str) -> dict[str, Any]:
    instants = frame(spark, {"text": TEXT}, *[(text,) for text in texts]).withColumn(
        "instant", cleaning.parse_instant(F.col("text"), input_zone)
    )
    found = instants.select(
        "text",
        F.unix_micros("instant").alias("micros"),
        cleaning.calendar_day(F.col("instant"), report_zone).alias("day"),
    )
    return {row["text"]: (row["micros"], row["day"]) for row in rows(found)}


def micros(text: str) -> int:
    instant = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return round(instant.timestamp()) * 1_000_000 + instant.microsecond


def test_instants_without_an_offset_are_in_the_input_zone(spark: SparkSession, session_zone: str) -> None:
    wanted = {
        "2024-03-10 12:00:00": "2024-03-10T11:00:00",
        "2024-07-10T12:00:00": "2024-07-10T10:00:00",
        "2024-07-10 12:00:00.5": "2024-07-10T10:00:00.500000",
        "2024-07-10 12:00:00Z": "2024-07-10T12:00:00",
        "2024-07-10 12:00:00+05:30": "2024-07-10T06:30:00",
        "2024-07-10 12:00:00-0800": "2024-07-10T20:00:00",
        "2024-07-10 12:00:00.25+14": "2024-07-09T22:00:00.250000",
    }
    found = parsed(spark, list(wanted), "Europe/Berlin", "UTC")
    assert found == {text: (micros(utc), date.fromisoformat(utc[:10])) for text, utc in wanted.items()}


def test_local_times_that_a_clock_change_skips_are_no_instants(spark: SparkSession, session_zone: str) -> None:
    around = ["2024-03-31 01:59:59", "2024-03-31 02:00:00", "2024-03-31 02:59:59.999", "2024-03-31 03:00:00"]
    found = parsed(spark, around, "Europe/Berlin", "UTC")
    assert [text for text in around if found[text][0] is None] == around[1:3]
    assert found[around[3]][0] - found[around[0]][0] == 1_000_000


def test_a_day_is_the_day_of_the_reporting_zone(spark: SparkSession, session_zone: str) -> None:
    wanted = {
        "2024-03-10 04:59:59.999999": date(2024, 3, 9),  # 23:59:59 in New York, winter time until 07:00 UTC
        "2024-03-10 05:00:00": date(2024, 3, 10),
        "2024-03-11 03:59:59.999999": date(2024, 3, 10),  # a day of 23 hours
        "2024-03-11 04:00:00": date(2024, 3, 11),
        "1969-12-31 23:59:59.999999": date(1969, 12, 31),
        "1970-01-01 05:00:00": date(1970, 1, 1),
    }
    found = parsed(spark, list(wanted), "UTC", "America/New_York")
    assert {text: day for text, (_, day) in found.items()} == wanted


def test_days_before_1970_are_counted_down(spark: SparkSession) -> None:
    wanted = {"1969-12-31 23:59:59.999999": date(1969, 12, 31), "1970-01-01 00:00:00": date(1970, 1, 1)}
    assert {text: day for text, (_, day) in parsed(spark, list(wanted), "UTC", "UTC").items()} == wanted


def test_only_the_written_format_is_an_instant(spark: SparkSession) -> None:
    wrong = [
        "2024-03-10", "2024-03-10 10:00", "2024-3-10 10:00:00", "2024-03-10 10:00:00\n", "17100648001", "0710064800",
        "2024-03-10 24:00:00", "2024-03-10 10:60:00", "2024-03-10 10:00:60", "2023-02-29 10:00:00",
        "2024-03-10 10:00:00.", "2024-03-10 10:00:00.1234567890", "2024-03-10 10:00:00  UTC", "2024-03-10 10:00:00+1",
        "2024-03-10 10:00:00+25:00", "2024-03-10t10:00:00", "10-03-2024 10:00:00", "+2024-03-10 10:00:00",
        "45361.41666",        "2024-03-10 10:00:0 ", "2024-03-10 10:00:0Z", "0000-00-00 00:00:00", "now", "epoch", "",
    ]  # fmt: skip
    found = parsed(spark, wrong, "UTC", "UTC")
    assert {text: value for text, value in found.items() if value != (None, None)} == {}


def classified(spark: SparkSession, *given: tuple[str, str, str, str], **limits: Any) -> list[str | None]:
    schema = {
        "user_id": TEXT, "timestamp": TEXT, "action_type": TEXT, "duration_ms": TEXT, "malformed_row": TEXT,
        "landing_date": DATE, "page_id": TEXT, "app_version": TEXT, "row": WHOLE,
    }  # fmt: skip
    bronze = frame(spark, schema, *[(*row, None, DAY, None, None, i) for i, row in enumerate(given)])
    chosen: dict[str, Any] = {"allowed_actions": ACTIONS, "max_duration_ms": 7_200_000, "late_days": 3} | limits
    found = cleaning.classify(bronze, Cleaning(**chosen))
    return [row["reason"] for row in sorted(found.select("row", "reason").collect(), key=lambda row: row["row"])]


def test_no_filter_judges_a_row_again(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ("user_id", "timestamp", "action_type", "duration_ms", "malformed_row")
    bronze = spark.range(1).select(*[F.col("id").cast("string").alias(name) for name in texts])
    judged = cleaning.classify(bronze.withColumn("landing_date", F.lit(DAY)), Cleaning(ACTIONS, 7_200_000, 3))
    found = []
    for one in (judged, judged.where("reason IS NULL").where(F.col("event_date") == F.lit(DAY)).select("duration")):
        one.explain()
        found.append(capsys.readouterr().out.count(WALL_TIME))
    assert found == [2, 2]  # in the plan: alone, and with what may follow


def test_limits_are_settings_and_include_themselves(spark: SparkSession) -> None:
    found = classified(
        spark,
        (
            "u",
            "2024-03-10 00:00:00",
            "like",
            "10",
        ),
        ("u", "2024-03-10 00:00:00", "like", "11"),
        ("u", "2024-03-10 00:00:00", "edit", "10"),
        ("u", "2024-03-09 23:59:59.999999", "like", "10"),
        allowed_actions=("like",),
        max_duration_ms=10,
        late_days=0,
    )
    assert found == [None, "duration_over_limit", "unknown_action", "late_event"]


def test_a_user_id_of_white_space_is_missing(spark: SparkSession) -> None:
    blank = ["", " ", "   ", " \t "]
    assert classified(spark, *[(user, f"{DAY} 10:00:00", "edit", "1") for user in blank]) == ["missing_user_id"] * 4


def test_future_and_late_go_by_the_reporting_day(spark: SparkSession) -> None:
    found = classified(
        spark,
        ("u", "2024-03-10T22:59:59Z", "edit", "1"),
        ("u", "2024-03-10T23:00:00Z", "edit", "1"),  # the next day in Berlin, and not in UTC
        ("u", "2024-03-11T00:00:00Z", "edit", "1"),
        ("u", "2024-03-06T23:00:00Z", "edit", "1"),
        ("u", "2024-03-06T22:59:59Z", "edit", "1"),
        reporting_timezone="Europe/Berlin",
    )
    assert found == [None, None, "future_event", None, "late_event"]
    found = classified(
        spark,
        ("u", "2024-03-11T07:59:59Z", "edit", "1"),  # a file of a day in New York holds hours of the next day in UTC
        ("u", "2024-03-11T08:00:00Z", "edit", "1"),
        ("u", "2024-03-10T07:59:59Z", "edit", "1"),  # late_days counts from the reporting day, whatever the zone
        reporting_timezone="Etc/GMT+8",
        late_days=0,
    )
    assert found == [None, "future_event", "late_event"]


def test_counts_reconcile_for_days_with_and_without_rows(spark: SparkSession) -> None:
    bronze = frame(spark, {"landing_date": DATE}, *[(DAY,)] * 5, (date(2024, 3, 12),))
    rejected = frame(spark, {"landing_date": DATE}, (DAY,), (date(2024, 3, 12),))
    routing = frame(
        spark,
        {"landing_date": DATE, "event_date": DATE, "reason": TEXT, "delivered_rows": WHOLE},
        (DAY, DAY, None, 3),
        (DAY, date(2024, 3, 9), None, 1),
        (DAY, None, "late_event", 1),
        (date(2024, 3, 12), None, "bad_timestamp", 1),
    )
    accepted = frame(spark, {"event_date": DATE, "duplicates": WHOLE}, (DAY, 2), (date(2024, 3, 9), 0))
    found = interaction_counts(bronze, rejected, routing, accepted, Days(DAY, date(2024, 3, 12)))
    names = ("delivered_rows", "rejected_rows", "routed_rows", "arrived_rows", "accepted_rows", "duplicate_rows")
    assert {str(row["date"]): [row[name] for name in names] for row in rows(found)} == {
        "2024-03-10": [5, 1, 4, 3, 1, 2],
        "2024-03-11": [0, 0, 0, 0, 0, 0],
        "2024-03-12": [1, 1, 0, 0, 0, 0],
    }


def test_user_days_count_every_type_of_action(spark: SparkSession) -> None:
    at = datetime(2024, 3, 10, 10, tzinfo=UTC)
    interactions = frame(
        spark,
        INTERACTIONS,
        (DAY, "a", at, "edit", 5),
        (DAY, "a", at.replace(hour=9), "page view!", 7),
        (DAY, "a", at.replace(hour=11), "edit", 0),
        (DAY, "b", at, "page view!", 1),
    )
    found = rows(user_days(interactions, ("edit", "page view!")))
    assert [list(row.values())[:6] for row in found] == [[DAY, "a", 3, 2, 1, 12], [DAY, "b", 1, 0, 1, 1]]
    assert [found[0][name].astimezone(UTC).hour for name in ("first_timestamp", "last_timestamp")] == [9, 11]


def test_stickiness_is_zero_on_a_quiet_day_and_null_when_nobody_was_active_for_30_days(spark: SparkSession) -> None:
    active = frame(spark, USER_DAYS, (DAY, "a", 2, 30), (DAY, "b", 1, 0))
    found = rows(daily_metrics(active, Days(date(2024, 3, 9), date(2024, 4, 9))))
    by_day = {str(row["date"]): (row["monthly_active_users_30d"], row["stickiness"]) for row in found}
    assert by_day["2024-03-09"] == (0, None)
    assert by_day["2024-03-10"] == (2, 1.0)
    assert by_day["2024-03-11"] == by_day["2024-04-08"] == (2, 0.0)
    assert by_day["2024-04-09"] == (0, None)


def test_metrics_of_no_activity_at_all_are_zeros_and_nulls(spark: SparkSession) -> None:
    nothing = frame(spark, USER_DAYS)
    daily = rows(daily_metrics(nothing, Days(DAY, DAY)))[0]
    monthly = rows(monthly_metrics(nothing, Days(DAY, DAY)))[0]
    by_session = rows(daily_session_metrics(frame(spark, SESSIONS), Days(DAY, DAY)))[0]
    assert [value for row in (daily, monthly, by_session) for value in row.values() if value] == [
        DAY,
        DAY,
        date(2024, 3, 1),
        DAY,
    ]
    averages = {"avg_duration_ms", "stickiness"}
    assert {name for name, value in daily.items() if value is None} == averages
    assert {name for name, value in monthly.items() if value is None} == {"avg_duration_ms"}
    assert {name for name, value in by_session.items() if value == 0} == {"sessions"}


def test_sums_beyond_32_bits_are_exact(spark: SparkSession) -> None:
    huge = 2**33 + 1
    active = frame(spark, USER_DAYS, (DAY, "a", huge, huge * 3), (DAY, "b", huge, huge * 5))
    found = rows(daily_metrics(active, Days(DAY, DAY)))[0]
    assert (found["total_actions"], found["avg_duration_ms"]) == (2 * huge, 4.0)


PERCENTILES: list[tuple[Sequence[int], int, int]] = [
    ([7], 7, 7),
    ([1, 9], 1, 9),
    ([1, 2, 3], 2, 3),
    (range(1, 11), 5, 10),
    (range(1, 41), 20, 38),
    ([0, 0, 0, 9], 0, 9),
    ([3, 3, 5, 5], 3, 5),
]


def test_percentiles_are_spans_that_occurred(spark: SparkSession) -> None:
    days = [date(2024, 3, 1 + at) for at in range(len(PERCENTILES))]
    spans = [
        (day, span, 1 + span % 2, 3) for day, (found, _, _) in zip(days, PERCENTILES, strict=True) for span in found
    ]
    found = rows(daily_session_metrics(frame(spark, SESSIONS, *spans), Days(days[0], days[-1])))
    assert [(row["p50_session_span_ms"], row["p95_session_span_ms"]) for row in found] == [
        (median, high) for _, median, high in PERCENTILES
    ]
    assert [row["single_action_rate"] for row in found] == [
        pytest.approx(sum(span % 2 == 0 for span in given) / len(given), abs=1e-6) for given, _, _ in PERCENTILES
    ]


def test_the_silence_that_starts_a_session_is_a_setting(spark: SparkSession) -> None:
    at = datetime(2024, 3, 10, 10, tzinfo=UTC)
    seconds = (0, 9, 19, 28)
    interactions = frame(spark, INTERACTIONS, *[(DAY, "a", at.replace(second=s), "edit", 1) for s in seconds])
    found = rows(session_metrics(interactions, ACTIONS, session_gap_seconds=10))
    assert [(row["session_id"], row["actions_per_session"]) for row in found] == [
        ("a_20240310_0", 2),
        ("a_20240310_1", 2),
    ]


def test_session_numbers_pass_nine_in_order_of_start(spark: SparkSession) -> None:
    at = datetime(2024, 3, 10, tzinfo=UTC)
    hours = [3, 11, 0, 7, 5, 9, 1, 10, 8, 2, 6, 4]
    interactions = frame(spark, INTERACTIONS, *[(DAY, "a_b", at.replace(hour=h), "edit", h) for h in hours])
    found = {
        row["session_id"]: row["session_duration_ms"] for row in rows(session_metrics(interactions, ACTIONS, 1800))
    }
    assert found == {f"a_b_20240310_{hour}": hour for hour in range(12)}


def users_frame(spark: SparkSession, *given: tuple[Any, ...]) -> DataFrame:
    bronze = frame(spark, USERS | {"landing_date": DATE}, *given)
    return bronze.withColumn("extra_columns", F.lit(None).cast("string"))


def versions(spark: SparkSession, *given: tuple[Any, ...]) -> list[dict[str, Any]]:
    bronze = users_frame(spark, *given)
    nobody = bronze.limit(0).select(
        F.col("landing_date").alias("valid_from"), "user_id", F.col("join_date").cast("date"), *DELIVERED_ATTRIBUTES
    )
    return rows(user_changes(bronze, nobody, DELIVERED_ATTRIBUTES))


JOIN_DATES = {
    "2024-03-05": "2024-03-05",
    " \t2024-03-05 ": "2024-03-05",
    "": None,
    " \t": None,
    None: None,
    "0001-01-01": "0001-01-01",
    "9999-12-31": "9999-12-31",
    "2024-02-29 10:11": "2024-02-29",
    "2024-03-05 10:11:12": "2024-03-05",
    "2024-03-05T23:59:59.999999999": "2024-03-05",
    "2024-03-05 00:00:00Z": "2024-03-05",
    "2024-03-05 00:00:00.000 UTC": "2024-03-05",
    "2024-03-05 00:30:00+14:00": "2024-03-05",  # the day as written, whatever day it is elsewhere
    "2024-03-05T23:30:00-1100": "2024-03-05",
    "2024-03-05 23:30:00 -11": "2024-03-05",
}
NO_JOIN_DATES = (
    *(
        "2024-03-05\n",
        "2024-03-05 10:00:00\n",
        "\n2024-03-05",
        "\uff12\uff10\uff12\uff14-03-05",
    ),  # the last: wide digits
    *"""01/02/2024|20240305|2024-W10-2|2024-065|2024-3-5|24-03-05|2024-3-5T1|5 Mar 2024|1709596800|today|NULL|NaN|0|-
2023-02-29|2024-02-30|2024-13-01|2024-00-10|2024-01-00|0000-01-01|0000-01-01 10:00:00|+2024-03-05|12024-03-05
2024-03-05T|2024-03-05x|2024-03-05 10|2024-03-05 1:02:03|2024-03-05  10:00:00|2024-03-05t10:00:00|2024-03-05 24:00:00
2024-03-05 10:60:00|2024-03-05 10:00:61|2024-03-05 10:00:00.|2024-03-05 10:00:00 CET|2024-03-05 10:00:00+1
2024-03-05 10:00:00+24:00""".replace("\n", "|").split("|"),
)


def test_users_join_on_the_day_that_is_written_or_are_rejected(spark: SparkSession, session_zone: str) -> None:
    texts = [*JOIN_DATES, *NO_JOIN_DATES]
    given = users_frame(spark, *[(f"u{at}", text, "DE", "ios", "free", None, DAY) for at, text in enumerate(texts)])
    found = {row["join_date"]: (row["joined"], row["reason"]) for row in rows(judged(given))}
    days = {text: day and date.fromisoformat(day) for text, day in JOIN_DATES.items()}
    assert found == {text: (days.get(text), None if text in days else "bad_join_date") for text in texts}


def test_a_row_of_users_is_a_version_or_has_the_first_reason_that_holds(spark: SparkSession) -> None:
    given = (
        ("good", "2024-01-01", "DE", "ios", "free", None, DAY),
        (" trimmed ", " 2024-01-02 09:30:00 ", " FR ", "ios", "free", None, DAY),
        ("nodate", "", "", None, "free", None, DAY),
        (None, None, None, None, None, "cut,", DAY),
        (None, "2024-01-01", "DE", "ios", "free", None, DAY),
        (" \t", "never", "DE", "ios", "free", None, DAY),
        ("a", "never", "DE", "ios", "free", None, DAY),
    )
    kept = {
        row["user_id"]: (str(row["join_date"]), row["country"], row["device_type"]) for row in versions(spark, *given)
    }
    assert kept == {
        "good": ("2024-01-01", "DE", "ios"),
        "trimmed": ("2024-01-02", "FR", "ios"),
        "nodate": ("None", None, None),
    }
    rejected = rows(rejected_users(users_frame(spark, *given)))
    assert {(row["user_id"], row["malformed_row"]): row["reason"] for row in rejected} == {
        (None, "cut,"): "malformed_row",
        (None, None): "missing_user_id",
        (" \t", None): "missing_user_id",
        ("a", None): "bad_join_date",
    }


def test_counts_of_users_break_their_law_where_a_rejected_row_is_lost(spark: SparkSession) -> None:
    valid = ("a", "2024-01-01", "DE", "ios", "free", None, DAY)
    bronze = users_frame(spark, valid, valid, ("b", "never", "DE", "ios", "free", None, DAY))
    rejected = rejected_users(bronze)
    law = next(rule for rule in declare(load_settings())["silver.user_counts"].rules if rule.name == "rows_reconcile")
    numbers = ("delivered_rows", "rejected_rows", "duplicate_rows", "kept_rows", "holds")
    for published, wanted in ((rejected, [3, 1, 1, 1, True]), (rejected.limit(0), [3, 0, 1, 1, False])):
        [found] = rows(user_counts(bronze, published, Days(DAY, DAY)).withColumn("holds", law.holds()))
        assert [found[name] for name in numbers] == wanted


def test_a_later_invalid_row_does_not_hide_a_users_earlier_one(spark: SparkSession) -> None:
    later = date(2024, 3, 11)
    found = versions(
        spark,
        ("a", "2024-01-01", "DE", "ios", "free", None, DAY),
        ("a", "never", "XX", "ios", "free", None, later),
        ("b", "", "FR", "ios", "free", None, later),
    )
    assert [(str(row["valid_from"]), row["user_id"], row["country"]) for row in found] == [
        ("2024-03-10", "a", "DE"),
        ("2024-03-11", "b", "FR"),
    ]


def test_a_user_without_a_version_and_of_the_version_unknown_is_one_user_of_that_value(spark: SparkSession) -> None:
    days = {"event_date": DATE, "user_id": TEXT, "app_version": TEXT, "actions": WHOLE}
    active = frame(spark, days, (DAY, "a", None, 2), (DAY, "a", "unknown", 3), (DAY, "b", "1.0.0", 1))
    sessions = frame(spark, {"session_date": DATE, "user_id": TEXT}, (DAY, "a"), (DAY, "a"), (DAY, "b"))
    nobody = UsersAsOf(frame(spark, {"user_id": TEXT, "valid_from": DATE}), [])
    found = rows(segment_metrics(active, sessions, nobody, ["app_version"], Days(DAY, DAY)))
    figures = [[row[name] for name in ("value", *segment_steps.SUMS)] for row in found]
    assert sorted(figures) == [["1.0.0", 1, 1, 1, 1, 1, 1], ["unknown", 1, 1, 1, 1, 5, 2]]


def test_segments_of_many_values_are_counted_as_those_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(7)
    some = [f"value {number}" for number in range(40)]

    def day() -> date:
        return DAY + timedelta(drawn.randrange(60))

    active: list[dict[str, Any]] = [
        {"user_id": drawn.choice("abcdefgh"), "date": day(), "actions": 3, "value": drawn.choice(some)}
        for _ in range(300)
    ]
    sessions = [{"user_id": row["user_id"], "date": row["date"], "sessions": 1} for row in active]
    versions = [
        {"user_id": user, "date": since, "valid_from": since, "version": {"country": drawn.choice([*some, None])}}
        for user in "abcdef"
        for since in {day() for _ in range(3)}
    ]
    columns = {"user_id": TEXT, "date": DATE, "actions": WHOLE, "value": TEXT, "sessions": WHOLE, "valid_from": DATE}
    schema = pa.schema([*columns.items(), ("version", pa.struct([("country", TEXT)]))])
    table = pa.Table.from_pylist([*active, *sessions, *versions], schema)

    def steps() -> list[dict[str, Any]]:
        wanted = Days(DAY + timedelta(20), DAY + timedelta(50))
        return sorted(segment_steps.steps(table, ["country"], "app_version", wanted).to_pylist(), key=str)

    few = steps()
    monkeypatch.setattr(segment_steps, "_MOST_CELLS", 0)
    assert steps() == few
    inside = sum(DAY + timedelta(20) <= row["date"] <= DAY + timedelta(50) for row in active)
    assert sum(row["total_actions"] for row in few) == 2 * 3 * inside > 0  # by country and by version
