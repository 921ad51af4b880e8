"""End to end through Dagster: delivered files in, published tables out."""

import gzip
import itertools
import os
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import duckdb
import pytest
from pyspark.sql import functions as F

from lakehouse_assets.cli.summary import rejected
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing.deliver import split
from lakehouse_assets.landing.text_files import FileRefused
from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.planning.planner import Work
from lakehouse_assets.runner import DaysLeftOut
from lakehouse_assets.settings import load_settings
from lakehouse_assets.storage.warehouse import ContractViolation
from lakehouse_assets_tests.conftest import HEADERS

HEADER = HEADERS["interactions"]


def reject_reasons(lake):
    return {row["user_id"]: row["reason"] for row in lake.table("silver.rejected_interactions")}


def test_every_reject_reason_and_late_rows(make_lake):
    lake = make_lake(("silver.rejected_interactions", "gold.daily_metrics"))
    lake.rows("2024-03-01", "x,2024-03-01 00:00:00,edit,p,1,1")
    lake.rows(
        "2024-03-05",
        "short,2024-03-05 00:00:00",
        ",2024-03-05 00:00:00,edit,p,1,1",
        "month13,2024-13-05 00:00:00,edit,p,1,1",
        "feb30,2024-02-30 00:00:00,edit,p,1,1",
        "notime,2024-03-05,edit,p,1,1",
        "year1,0001-01-01 00:00:00,edit,p,1,1",
        "year9999,9999-12-31 00:00:00,edit,p,1,1",
        "action,2024-03-05 00:00:00,hack,p,1,1",
        "abc,2024-03-05 00:00:00,edit,p,abc,1",
        "half,2024-03-05 00:00:00,edit,p,1.5,1",
        "nan,2024-03-05 00:00:00,edit,p,NaN,1",
        "digits,2024-03-05 00:00:00,edit,p,99999999999999999999,1",
        "negative,2024-03-05 00:00:00,edit,p,-1,1",
        "negdigits,2024-03-05 00:00:00,edit,p,-99999999999999999999,1",
        "limit,2024-03-05 00:00:00,edit,p,7200001,1",
        "tomorrow,2024-03-06 00:00:00,edit,p,1,1",
        "late,2024-03-01 00:00:00,edit,p,1,1",
        "intime,2024-03-02 00:00:00,edit,p, 7 ,1",
        "whole,2024-03-02 00:00:00,edit,p,100.0,1",
        "wholes,2024-03-02 00:00:00,edit,p, +200.000 ,1",
        "dot,2024-03-05 00:00:00,edit,p,.0,1",
        "manydigits,2024-03-05 00:00:00,edit,p,-99999999999999999999.0,1",
    )
    lake.run()
    assert {row["malformed_row"] for row in lake.table("silver.rejected_interactions") if row["malformed_row"]} == {
        "short,2024-03-05 00:00:00"
    }
    assert reject_reasons(lake) == {
        None: "malformed_row", "": "missing_user_id", "month13": "bad_timestamp", "feb30": "bad_timestamp",
        "notime": "bad_timestamp", "year1": "late_event", "year9999": "future_event", "action": "unknown_action",
        "abc": "bad_duration", "half": "bad_duration", "nan": "bad_duration", "digits": "duration_over_limit",
        "dot": "bad_duration", "manydigits": "negative_duration",
        "negative": "negative_duration", "negdigits": "negative_duration", "limit": "duration_over_limit",
        "tomorrow": "future_event", "late": "late_event",
    }  # fmt: skip
    daily = lake.by_day("gold.daily_metrics")
    assert [day for day in daily if daily[day]["daily_active_users"]] == ["2024-03-01", "2024-03-02"]
    assert max(daily) == "2024-03-05"
    assert daily["2024-03-04"]["avg_duration_ms"] is None


def test_late_and_corrected_files_equal_a_clean_rebuild(make_lake):
    first = "u,2024-03-01 10:00:00,edit,p,10,1"
    second = ("u,2024-03-02 10:00:00,edit,p,10,1", "w,2024-03-02 10:00:00,edit,p,10,1")
    late = "v,2024-03-01 11:00:00,edit,p,20,1"
    conflicting = "u,2024-03-01 10:00:00,edit,p,5,1"
    joined = "w,2024-02-29,DE,ios,free"
    lake = make_lake(tables=())
    lake.rows("2024-03-01", first, "w,2024-03-01 09:00:00,edit,p,1,1")
    lake.rows("2024-03-02", *second)
    lake.run()
    assert first_days(lake) == {"u": "2024-03-01", "w": "2024-03-01"}
    lake.rows("2024-03-02", *second, late, conflicting)
    lake.rows("2024-03-01", first)  # same name, new content: the day is replaced, and w is new a day later
    lake.rows("2024-03-02", joined, dataset="users")  # the first snapshot: it counts for the days before it too
    lake.run()
    assert lake.run() == []
    tables = [name for name in lake.lakehouse.tables if not name.startswith("bronze")]
    got = {name: lake.table(name) for name in tables}
    clean = make_lake(tables=())
    clean.rows("2024-03-01", first)
    clean.rows("2024-03-02", *second, late, conflicting)
    clean.rows("2024-03-02", joined, dataset="users")
    clean.run()
    assert got == {name: clean.table(name) for name in tables}
    earliest_landing = next(
        r for r in got["silver.interactions"] if r["user_id"] == "u" and str(r["event_date"]) == "2024-03-01"
    )
    assert earliest_landing["duration_ms"] == 10
    assert [r["daily_active_users"] for r in got["gold.daily_metrics"]] == [2, 2]
    assert first_days(clean) == {"u": "2024-03-01", "v": "2024-03-01", "w": "2024-03-02"}
    by_join_date = [r for r in got["gold.retention_weekly"] if r["cohort_by"] == "join_date"]
    assert [(str(r["date"]), r["cohort_users"]) for r in by_join_date] == [("2024-03-01", 1), ("2024-03-02", 1)]


def first_days(lake):
    return {r["user_id"]: str(r["first_date"]) for r in lake.table("silver.user_first_days")}


def test_a_new_day_leaves_earlier_days_alone(make_lake):
    lake = make_lake(("gold.daily_metrics",))
    for day in ("2024-03-01", "2024-03-02", "2024-03-03"):
        lake.rows(day, f"u,{day} 10:00:00,edit,p,10,1")
    lake.run()
    lake.rows("2024-03-04", "u,2024-03-04 10:00:00,edit,p,10,1")
    assert {(first, last) for _, first, last in lake.run()} == {("2024-03-04", "2024-03-04")}


def test_a_day_run_again_is_the_same_and_a_range_equals_its_days(make_lake):
    lake = make_lake(("silver.user_first_days", "gold.daily_metrics", "gold.session_metrics"))
    days = ["2024-02-28", "2024-02-29", "2024-03-01"]
    for i, day in enumerate(days):
        lake.rows(day, *[f"u{k},{day} {k:02}:00:00,edit,p,{k},1" for k in range(i, i + 4)])
    lake.run()
    before = lake.contents()
    for day in (days[1], days[0], days[1]):
        lake.runner.run_range(date.fromisoformat(day), date.fromisoformat(day))
    lake.runner.run_range(date(2024, 2, 28), date(2024, 3, 1))
    assert lake.contents() == before
    assert lake.stale() == {}


def test_rolling_windows_agree_with_plain_sql(make_lake):
    lake = make_lake(("gold.daily_metrics", "gold.monthly_metrics"))
    events = [
        (f"u{(d * d + k) % 7}", date(2024, 1, 20).toordinal() + d)
        for d, k in itertools.product(range(0, 45, 3), range(2))
    ]
    by_day: dict[str, list[str]] = {}
    for user, ordinal in events:
        day = date.fromordinal(ordinal).isoformat()
        by_day.setdefault(day, []).append(f"{user},{day} 10:00:00,edit,p,1,1")
    for day, rows in by_day.items():
        lake.rows(day, *rows)
    lake.run()
    active = lake.lakehouse.catalog.load("silver.interactions").scan().to_arrow()
    connection = duckdb.connect()
    connection.register("active", active)
    for row in lake.table("gold.daily_metrics"):
        for column, days in (
            ("weekly_active_users", 7),
            ("monthly_active_users_28d", 28),
            ("monthly_active_users_30d", 30),
        ):
            wanted = connection.execute(
                "SELECT count(DISTINCT user_id) FROM active WHERE event_date BETWEEN $1::DATE - $2::INT AND $1::DATE",
                [row["date"], days - 1],
            ).fetchall()[0][0]
            assert row[column] == wanted, (row["date"], column)
    for row in lake.table("gold.monthly_metrics"):
        wanted = connection.execute(
            "SELECT count(DISTINCT user_id) FROM active WHERE event_date BETWEEN $1::DATE AND $2::DATE",
            [row["month_date"], row["date"]],
        ).fetchall()[0][0]
        assert row["monthly_active_users"] == wanted, row["date"]


GOOD = f"{HEADER}\nu,2024-03-01 10:00:00,edit,p,10,1\n"
REFUSED = {
    "zero bytes": (b"", "a.csv", "is empty"),
    "no header": (b"u,2024-03-01 10:00:00,edit,p,10,1\n", "a.csv", "header not recognised"),
    "missing column": (GOOD.replace(",duration_ms", ",ms").encode(), "a.csv", "'duration_ms' is missing"),
    "column twice": (GOOD.replace("page_id", "user_id").encode(), "a.csv", "'user_id' appears twice"),
    "cut gzip": (gzip.compress(GOOD.encode())[:-9], "a.csv.gz", "damaged or cut gzip"),
    "not gzip": (GOOD.encode(), "a.csv.gz", r"is named \.gz and is not compressed"),
    "junk behind gzip": (gzip.compress(GOOD.encode()) + b"junk", "a.csv.gz", "damaged or cut gzip"),
    "UTF-16": (GOOD.encode("utf-16"), "a.csv", "looks like UTF-16"),
    "Latin-1": (GOOD.replace(",p,", ",caf\xe9,").encode("latin-1"), "a.csv", "is not UTF-8"),
    "an unknown separator": (GOOD.replace(",", "~").encode(), "a.csv", "header not recognised"),
    "HTML": (b"<html>not found</html>", "a.csv", "HTML or XML"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_read_is_refused_by_name(make_lake, case):
    content, name, sentence = REFUSED[case]
    lake = make_lake()
    path = lake.deliver("2024-03-01", content, name=name)
    with pytest.raises(FileRefused, match=sentence) as refused:
        lake.lakehouse.zone.inspect("interactions", lake.lakehouse.zone.files("interactions", date(2024, 3, 1))[0])
    assert str(path) in str(refused.value)


def one_good_row(lake):
    lake.deliver("2024-03-01", GOOD)


def test_a_refused_file_leaves_the_day_as_it_was(computed_lake):
    lake = computed_lake(("gold.daily_metrics",), one_good_row)
    before = lake.table("gold.daily_metrics")
    lake.deliver("2024-03-01", b"")
    with pytest.raises(DaysLeftOut) as failed:
        lake.run()
    assert "is empty" in str(failed.value)
    assert lake.table("gold.daily_metrics") == before
    another = Lakehouse(lake.lakehouse.settings)  # as a later process, which inspects no file to tell
    assert date(2024, 3, 1) in another.planner.stale(another.zone.listings())["bronze.interactions"]
    [file] = another.zone.files("interactions", date(2024, 3, 1))
    assert "is empty" in (another.zone.known_refusal(file) or "")


def test_header_only_is_a_valid_empty_day(computed_lake):
    lake = computed_lake(("gold.daily_metrics",), one_good_row)
    lake.deliver("2024-03-01", HEADER + "\n")
    lake.run()
    assert lake.table("silver.interactions") == lake.table("bronze.interactions") == []
    assert lake.by_day("gold.daily_metrics")["2024-03-01"]["daily_active_users"] == 0


def test_dirty_but_readable_files(make_lake):
    row = "u{},2024-03-01 10:00:00,edit,{},10,1"
    lake = make_lake(("silver.interaction_counts",))
    lake.deliver("2024-03-01", "\ufeff" + GOOD.replace("\n", "\r\n"), name="crlf.csv")
    lake.deliver("2024-03-01", GOOD.replace("u,", "cr,").replace("\n", "\r"), name="cr.csv")
    lake.deliver("2024-03-01", gzip.compress(GOOD.replace("u,", "gz,").encode()), name="g.csv.gz")
    lake.deliver(
        "2024-03-01",
        "duration_ms,extra,app_version,user_id,timestamp,action_type,page_id\n3,x,1,re,2024-03-01 10:00:00,edit,p\n",
        name="reordered.csv",
    )
    quotes = [row.format(1, '"a,""b""\nc"'), row.format(2, '"open'), row.format(3, "fine"), HEADER]
    quotes += [row.format(4, "nul\x00"), row.format(5, "y" * 2_000_000), row.format(6, '"q"')]
    lake.deliver("2024-03-01", "\n".join([HEADER, *quotes]), name="quotes.csv")
    lake.deliver("2024-03-01", GOOD, name="_hidden.csv")
    lake.deliver("2024-03-01", GOOD, name="x.csv.tmp")
    (lake.lakehouse.zone.root / "interactions/date=2024-03-01/folder.csv").mkdir()
    lake.run()
    accepted = {row["user_id"]: row["page_id"] for row in lake.table("silver.interactions")}
    assert accepted == {"u": "p", "cr": "p", "gz": "p", "re": "p", "u1": 'a,"b"\nc', "u3": "fine", "u6": "q"}
    malformed = [row["malformed_row"] for row in lake.table("silver.rejected_interactions")]
    assert len(malformed) == 4
    assert sum(text == row.format(2, '"open') for text in malformed) == 1
    counts = lake.by_day("silver.interaction_counts")["2024-03-01"]
    assert counts["delivered_rows"] == 11
    extra = {row["extra_columns"] for row in lake.table("bronze.interactions")} - {None}
    assert extra == {'{"extra": "x"}'}


@pytest.mark.parametrize("counts", ["counts", "no counts"])
def test_a_broken_contract_publishes_nothing(make_lake, spark, monkeypatch, counts):
    """Nor does it where the engine did not say what it counted, as a busy Connect server does not."""
    lake = make_lake(tables=("silver.interactions",))
    lake.deliver("2024-03-01", GOOD)
    if counts == "no counts":
        engine = type(lake.lakehouse.engine)

        def uncounted(*given, stage=engine.stage):
            staging = stage(*given)
            staging.counted = {}
            return staging

        monkeypatch.setattr(engine, "stage", uncounted)
    lake.run()
    warehouse = lake.lakehouse.warehouse
    before = lake.table("silver.interactions")
    day = date(2024, 3, 1)
    rows = warehouse.read("silver.interactions", day, day)
    for broken, law in (
        (rows.withColumn("duration_ms", rows.duration_ms - 11), "duration_within_limits"),
        (rows.unionByName(rows), "no_duplicate_key"),
        (rows.withColumn("event_date", F.lit(date(2024, 3, 2))), "rows_in_their_partition"),
    ):
        base = warehouse.base("silver.interactions", {})
        with pytest.raises(ContractViolation, match=law):
            warehouse.publish(warehouse.begin("silver.interactions", broken, day, day, base), {})
        assert lake.table("silver.interactions") == before
    refs = lake.lakehouse.catalog.load("silver.interactions").refs()
    assert set(refs) == {"main"}


def test_time_zones_of_events_and_reports(make_lake, spark):
    spark.conf.set("spark.sql.session.timeZone", "Pacific/Auckland")
    try:
        zones = {"input_timezone": "Europe/Berlin", "reporting_timezone": "America/New_York"}
        lake = make_lake(("silver.interactions", "silver.rejected_interactions"), **zones)
        lake.rows(
            "2024-03-31",
            "berlin,2024-03-31 04:30:00,edit,p,1,1",  # 02:30 UTC, 22:30 the day before in New York
            "skipped,2024-03-31 02:30:00,edit,p,1,1",  # this wall time does not exist in Berlin
            "offset,2024-03-31T23:59:59-0400,edit,p,1,1",
        )
        lake.run()
        found = {row["user_id"]: str(row["event_date"]) for row in lake.table("silver.interactions")}
        assert found == {"berlin": "2024-03-30", "offset": "2024-03-31"}
        assert reject_reasons(lake) == {"skipped": "bad_timestamp"}
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_a_change_of_zone_counts_every_row_on_its_day_and_its_undoing_leaves_no_trace(make_lake, tmp_path):
    lake = make_lake(("silver.interaction_counts", "gold.daily_metrics"), late_days=0)
    lake.rows("2024-03-01", "a,2024-03-01 10:00:00,edit,p,1,1", "b,2024-03-01 20:00:00,edit,p,1,1")
    lake.rows("2024-03-02", "a,2024-03-02 10:00:00,edit,p,1,1", "b,2024-03-02 20:00:00,edit,p,1,1")
    lake.rows("2024-03-02", "c,2024-03-03 00:00:00,edit,p,1,1", name="b.csv")
    divided = tmp_path / "divided.csv"
    divided.write_text(f"{HEADERS['interactions']}\nd,2024-03-01 10:00:00,edit,,1,1\ne,2024-03-02 20:00:00,edit,,1,1\n")
    zone = ZoneInfo("UTC")
    split(lake.lakehouse.zone, divided, {}, input_zone=zone, reporting_zone=zone)
    lake.run()
    utc = lake.contents()
    assert reject_reasons(lake) == {"c": "future_event"}

    kolkata, second = lake.under(reporting_timezone="Asia/Kolkata"), date(2024, 3, 2)
    landed = kolkata.lakehouse.zone.listings()
    kolkata.runner._execute(landed, {}, [([Work(("bronze.interactions",), second, second)], None)])  # as the UI would
    assert kolkata.lakehouse.zone.dates("interactions")[-1] == date(2024, 3, 3)
    delivered = {row["user_id"] for row in kolkata.table("bronze.interactions") if row["landing_date"] == second}
    assert delivered == {"a", "b", "c"}, "bronze read a file before it was divided again"
    kolkata.run()
    assert reject_reasons(kolkata) == {"c": "future_event"}
    figures = {day: row["total_actions"] for day, row in kolkata.by_day("gold.daily_metrics").items()}
    assert figures == {"2024-03-01": 2, "2024-03-02": 2, "2024-03-03": 2}
    arrived = {day: row["arrived_rows"] for day, row in kolkata.by_day("silver.interaction_counts").items()}
    assert arrived == figures
    assert kolkata.stale() == {}

    lake.run()
    assert "the time zone has changed: divided.csv was split by days of Asia/Kolkata" in "\n".join(lake.said)
    assert lake.stale() == {}
    assert lake.contents() == utc  # the day that only Kolkata had is gone, not a row of zeros


def test_users_keep_their_history_whatever_the_order_of_deliveries(make_lake):
    lake = make_lake(("silver.users",), segments="country,tier")
    lake.deliver(
        "2024-03-05",
        "user_id,join_date,country,device_type,subscription_type,tier\na,2024-01-01,ES,ios,,gold\n",
        "users",
    )
    lake.run()
    lake.rows(
        "2024-03-01",
        "a,2024-01-01,DE,ios,free",
        "a,2024-01-02,FR,ios,free",
        ",2024-01-01,XX,x,x",
        "b,,,web,pro",
        dataset="users",
    )
    lake.rows("2024-03-03", "a,2024-01-01,ES,ios,", "b,,,web,pro", dataset="users")
    # the days of the new deliveries, and versions of the day after them, which follow from the earlier ones: one run
    assert [(first, last) for _, first, last in lake.run()] == [("2024-03-01", "2024-03-05")]
    found = {
        (row["user_id"], str(row["valid_from"])): (row["country"], row["tier"], str(row["valid_to"]), row["is_current"])
        for row in lake.table("silver.users")
    }
    assert found == {
        ("a", "2024-03-01"): ("FR", None, "2024-03-03", False),
        ("a", "2024-03-03"): ("ES", None, "2024-03-05", False),
        ("a", "2024-03-05"): ("ES", "gold", "None", True),
        ("b", "2024-03-01"): (None, None, "None", True),
    }
    assert lake.run() == []


def test_users_who_joined_at_a_time_count_and_every_row_that_cannot_be_used_is_told(make_lake):
    lake = make_lake(("gold.segment_metrics", "silver.user_counts", "silver.users"))
    day = "2024-03-05"
    lake.rows(day, *[f"u{user},{day} 10:00:0{user},page_view,p,100,1.0.0" for user in range(5)])
    countries = ("DE", "DE", "FR", "US", "US")
    lake.rows(
        day, *[f"u{at},2024-02-0{at + 1} 09:30:00,{of},ios,paid" for at, of in enumerate(countries)], dataset="users"
    )
    bad = ("01/02/2024", "20240101", "2024-W01-1", "2023-02-29", "0000-01-01")
    dirty = [f"v{at},{text},XX,ios,paid" for at, text in enumerate(bad)]
    lake.rows(day, *dirty, " ,2024-01-01,XX,ios,paid", "cut,", "u0,,XX,ios,paid", dataset="users", name="b.csv")
    work = lake.runner.run_stale(lake.lakehouse.zone.listings())
    by_country = [row for row in lake.table("gold.segment_metrics") if row["segment"] == "country"]
    assert {row["value"]: row["daily_active_users"] for row in by_country} == {"DE": 2, "FR": 1, "US": 2}
    joined = {row["user_id"]: str(row["join_date"]) for row in lake.table("silver.users")}
    assert joined == {f"u{at}": f"2024-02-0{at + 1}" for at in range(5)}
    reasons = {row["join_date"] or row["malformed_row"]: row["reason"] for row in lake.table("silver.rejected_users")}
    assert reasons == {**dict.fromkeys(bad, "bad_join_date"), "2024-01-01": "missing_user_id", "cut,": "malformed_row"}
    [counts] = lake.table("silver.user_counts")
    assert list(counts.values())[1:] == [13, 7, 1, 5]  # delivered, rejected, duplicates, kept
    assert rejected(work, lake.lakehouse.catalog) == [
        "rejected: 7 of 13 users' rows (bad_join_date 5, malformed_row 1, missing_user_id 1); "
        "see silver.rejected_users",
        "  bad_join_date: write join_date as YYYY-MM-DD, with a time or without, or leave it empty",
        "duplicates: 1 user row with the same user and landing date as another, not counted; see silver.user_counts",
    ]
    with terminal_instance(lake.lakehouse.settings) as instance:
        check = dg.AssetCheckKey(dg.AssetKey(["silver", "user_counts"]), "rows_reconcile")
        [record] = instance.event_log_storage.get_asset_check_execution_history(check, limit=10)
        event: Any = instance.get_latest_data_version_record(
            dg.AssetKey(["silver", "rejected_users"]), partition_key=day
        )
    assert (record.partition, record.status.value) == (day, "SUCCEEDED")
    shown = event.asset_materialization.metadata["rejected_by_reason"].records
    assert {row.data["reason"]: row.data["rejected_rows"] for row in shown} == {
        "bad_join_date": 5,
        "malformed_row": 1,
        "missing_user_id": 1,
    }


def test_a_table_whose_days_went_by_another_column_is_made_anew(tmp_path):
    catalog = Lakehouse(load_settings(home=tmp_path)).catalog
    older = catalog.ensure("silver.users", {"snapshot_date": "date", "country": "string"}, "snapshot_date")
    columns = {"valid_from": "date", "country": "string", "is_current": "boolean"}
    newer = catalog.ensure("silver.users", columns, "valid_from")
    assert newer.metadata.table_uuid != older.metadata.table_uuid
    assert newer.schema().column_names == list(columns)
    again = catalog.ensure("silver.users", columns, "valid_from")
    assert again.metadata.table_uuid == newer.metadata.table_uuid


def test_values_of_300_letters_and_2000_countries_are_no_names_of_files(make_lake):
    scripts = "aЖ漢ก😀/%"
    long = [letter * 300 for letter in scripts]
    action = "visit_" * 50  # 300 letters
    lake = make_lake(
        ("silver.users", "gold.session_metrics", "gold.segment_metrics", "gold.version_performance"),
        allowed_actions=("page_view", action),
    )
    countries = [f"{scripts[n % len(scripts)]}{n:04}" * 60 for n in range(2000)]
    users = [f"{text},2024-01-01,{country},{text},{text}" for text, country in zip(long, countries, strict=False)]
    users += [f"u{n},2024-01-01,{countries[n]},ios,free" for n in range(len(users), 2000)]
    lake.rows("2024-03-05", *users, dataset="users")
    lake.rows("2024-03-05", *(f"{text},2024-03-05 10:00:00,{action},{text},5,{text}" for text in long))
    lake.run()

    assert sorted(row["country"] for row in lake.table("silver.users")) == sorted(countries)
    assert {row["session_id"] for row in lake.table("gold.session_metrics")} == {f"{t}_20240305_0" for t in long}
    assert {row["value"] for row in lake.table("gold.segment_metrics") if row["segment"] == "country"} == set(
        countries[: len(long)]
    )
    assert {(row["app_version"], row["action_type"]) for row in lake.table("gold.version_performance")} == {
        (text, action) for text in long
    }
    for name in lake.lakehouse.catalog.names():
        files = lake.lakehouse.catalog.iceberg.load_table(name).scan().plan_files()
        data = [Path(task.file.file_path) for task in files]
        assert len(data) <= 2, name
        assert all(len(os.fsencode(path.name)) <= 100 and path.parent.name.count("=") <= 1 for path in data)


def test_a_table_of_users_partitioned_by_country_goes_on(make_lake):
    lake = make_lake(("silver.users",))
    lake.rows("2024-03-01", "a,2024-01-01,DE,ios,free", "b,2024-01-01,FR,ios,free", dataset="users")
    lake.rows("2024-03-01", "a,2024-03-01 10:00:00,edit,p,5,1.0.0")
    lake.run()
    catalog, day = lake.lakehouse.catalog, date(2024, 3, 1)
    with catalog.iceberg.load_table("silver.users").update_spec() as update:  # as earlier versions laid it out
        update.add_identity("country")
    lake.lakehouse.warehouse.compact("silver.users", day, day, {})
    before = lake.table("silver.users")
    partitions = [task.file.partition[1] for task in catalog.load("silver.users").scan().plan_files()]
    assert sorted(partitions) == ["DE", "FR"]

    lake.rows("2024-03-02", f"c,2024-01-01,{'Ж' * 300},ios,free", "a,2024-01-01,ES,ios,free", dataset="users")
    lake.run()
    table = catalog.iceberg.load_table("silver.users")
    assert [part.name for part in table.spec().fields] == ["valid_from_month"]
    live = list(table.scan().plan_files())
    assert len(live) == 1
    assert "country=" not in live[0].file.file_path
    ended = {"valid_to": date(2024, 3, 2), "is_current": False}
    kept = [row | (ended if row["user_id"] == "a" else {}) for row in before]
    new = [(row["user_id"], row["country"]) for row in lake.table("silver.users") if row not in kept]
    assert sorted(new) == [("a", "ES"), ("c", "Ж" * 300)]
    assert len(lake.table("silver.users")) == 4
    assert lake.stale() == {}


def test_checks_show_a_result_for_every_day_of_a_range(make_lake):
    lake = make_lake(("gold.daily_metrics",))
    lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,10,1")
    lake.rows("2024-03-03", "u,2024-03-03 10:00:00,edit,p,10,1")
    lake.run()
    with dg.DagsterInstance.from_config(str(lake.lakehouse.settings.dagster_path)) as instance:
        for asset, name in (
            ("silver/interactions", "no_duplicate_key"),
            ("gold/daily_metrics", "active_users_ordered"),
        ):
            key = dg.AssetCheckKey(dg.AssetKey(asset.split("/")), name)
            records = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
            assert {r.partition for r in records} == {"2024-03-01", "2024-03-02", "2024-03-03"}
            assert {r.status.value for r in records} == {"SUCCEEDED"}


def test_what_is_stale_says_which_file_or_setting_changed(make_lake):
    lake, day = make_lake(tables=("silver.rejected_interactions",)), date(2024, 3, 1)
    lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,10,1", name="a, b=c.csv")
    lake.rows("2024-03-01", "u,2024-03-01 11:00:00,edit,p,10,1", name="gone.csv").touch()
    lake.run()
    lake.rows("2024-03-01", "u,2024-03-01 10:00:00,edit,p,11,1", name="a, b=c.csv")
    lake.rows("2024-03-01", "u,2024-03-01 12:00:00,edit,p,10,1", name="new.csv")
    (lake.lakehouse.zone.folder("interactions", day) / "gone.csv").unlink()
    assert lake.stale()["bronze.interactions"] == {day: "a, b=c.csv changed, gone.csv is gone, new.csv is new"}
    lake.run()
    named = lake.under(late_days=5, timestamp_formats=("%d.%m.%Y",))
    assert named.stale()["silver.rejected_interactions"] == {day: "late_days, timestamp_formats changed"}
