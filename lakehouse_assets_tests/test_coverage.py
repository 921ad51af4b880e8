"""What counts as partial: days that are not over, weeks and months to date, windows that begin before the data."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakehouse_assets.assets.charts import COVERAGE
from lakehouse_assets.calendar import DAY, Days, days_between
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.checks import unusual_days
from lakehouse_assets.orchestration.ui_metadata import UiMetadata
from lakehouse_assets.reports.charts import charts_of
from lakehouse_assets.settings import load_settings
from lakehouse_assets.storage.catalog import files_overlapping
from lakehouse_assets.storage.query import connect, days_not_over
from lakehouse_assets_tests.conftest import Lake
from lakehouse_assets_tests.test_cli import store

FIRST, LAST = date(2024, 2, 28), date(2024, 4, 10)  # both Wednesdays
ACTIONS = ("edit", "view")
PARTIAL = ("day", "window_7d", "window_28d", "window_30d", "week", "month")


def filled(home: Path, read_at: datetime, landed: Iterable[date], computed: Iterable[date]) -> Lakehouse:
    """A lakehouse whose landing dates were all read at one moment."""
    landed, computed = list(landed), list(computed)
    for month in sorted({day.replace(day=1) for day in computed}):  # a file is of one month
        of_month = [day for day in landed if day.replace(day=1) == month]
        store(home, "bronze.interactions", [{"landing_date": day, "ingested_at": read_at} for day in of_month])
        of_month = [day for day in computed if day.replace(day=1) == month]
        lakehouse = store(home, "gold.daily_metrics", [{"date": day} for day in of_month])
    for name, days in (("bronze.interactions", landed), ("gold.daily_metrics", computed)):
        months: dict[str, dict[str, str]] = {}
        for day in days:
            months.setdefault(f"lakehouse.stamps.{day:%Y-%m}", {})[f"{day:%d}"] = "stamp"
        stamps = {month: json.dumps(of) for month, of in months.items()}
        lakehouse.catalog.iceberg.load_table(name).transaction().set_properties(stamps).commit_transaction()
    return lakehouse


def partial(lakehouse: Lakehouse) -> dict[str, set[date]]:
    connection = connect(lakehouse.catalog)
    return {
        name: {
            day
            for (day,) in connection.execute(f"SELECT date FROM gold.day_coverage WHERE {name}_is_partial").fetchall()
        }
        for name in PARTIAL
    }


def test_windows_weeks_and_months_that_are_not_whole(tmp_path: Path) -> None:
    days = days_between(FIRST, LAST)
    early = [FIRST - timedelta(days=1), *days]  # late rows of the first delivery belong to the day before it
    found = partial(filled(tmp_path, datetime(2024, 4, 11, 1, tzinfo=UTC), days, early))
    before = FIRST - timedelta(days=1)
    assert found["day"] == {before}
    for window in (7, 28, 30):
        assert found[f"window_{window}d"] == {day for day in early if (day - FIRST).days < window - 1}
    sundays = {day for day in days if day.weekday() == 6}
    assert found["week"] == {*early} - sundays | {date(2024, 3, 3)}  # the first week began on a Monday without data
    assert found["month"] == {*early} - {date(2024, 3, 31)}  # of February only two days were delivered


@pytest.mark.parametrize(
    ("zone", "read_at", "is_over"),
    [
        ("UTC", "2024-04-10 07:00:00", False),
        ("UTC", "2024-04-10 23:59:59", False),
        ("UTC", "2024-04-11 00:00:00", True),
        ("America/New_York", "2024-04-11 03:59:59", False),
        ("America/New_York", "2024-04-11 04:00:00", True),
        ("Asia/Tokyo", "2024-04-10 14:59:59", False),
        ("Asia/Tokyo", "2024-04-10 15:00:00", True),
    ],
)
def test_a_day_is_over_when_it_was_read_after_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, read_at: str, is_over: bool
) -> None:
    monkeypatch.setenv("LAKEHOUSE_REPORTING_TIMEZONE", zone)
    days = days_between(FIRST, LAST)
    lakehouse = filled(tmp_path, datetime.fromisoformat(read_at).replace(tzinfo=UTC), days, days)
    found = partial(lakehouse)
    assert days_not_over(lakehouse.catalog) == (set() if is_over else {LAST})
    assert {name: LAST in found[name] for name in ("day", "window_7d", "window_30d")} == dict.fromkeys(
        ("day", "window_7d", "window_30d"), not is_over
    )


def test_a_day_that_the_zone_puts_after_the_last_landing_date_is_not_over(tmp_path: Path) -> None:
    days = days_between(FIRST, LAST)
    lakehouse = filled(tmp_path, datetime(2024, 6, 1, tzinfo=UTC), days, [*days, LAST + timedelta(days=1)])
    assert days_not_over(lakehouse.catalog) == {LAST + timedelta(days=1)}


def test_the_last_day_is_over_when_a_later_landing_date_is_read(tmp_path: Path) -> None:
    days = days_between(FIRST, LAST)
    lakehouse = filled(tmp_path, datetime(2024, 4, 10, 7, tzinfo=UTC), days, days)
    store(tmp_path, "bronze.interactions", [{"landing_date": date(2024, 4, 11), "ingested_at": datetime.now(tz=UTC)}])
    assert days_not_over(lakehouse.catalog) == set()


def test_a_lakehouse_without_metrics_has_no_days_that_are_not_over(tmp_path: Path) -> None:
    lakehouse = Lakehouse(load_settings(home=tmp_path))
    assert days_not_over(lakehouse.catalog) == set()
    assert connect(lakehouse.catalog).execute("SELECT count(*) FROM gold.day_coverage").fetchall() == [(0,)]


def test_an_unfinished_day_is_not_called_unusual(make_lake: Callable[..., Any], catalog_home: Path) -> None:
    lake = make_lake(tables=())
    days = [LAST - timedelta(days=1), LAST]
    filled(catalog_home, datetime(2024, 4, 10, 7, tzinfo=UTC), days, days)
    unusual = {"metric": "daily_active_users", "is_anomaly": True}
    store(catalog_home, "gold.anomalies", [{"date": day, **unusual} for day in days])
    assert set(unusual_days(lake.lakehouse, *days)) == {days[0]}


def test_a_plot_of_days_computed_again_knows_the_rest_of_their_week_and_month(tmp_path: Path) -> None:
    days = days_between(FIRST, LAST)
    shown = UiMetadata(filled(tmp_path, datetime(2024, 4, 11, 1, tzinfo=UTC), days, days).catalog)
    shown._cover(date(2024, 3, 13))
    since = {name: [day for day in found if day >= str(FIRST)] for name, found in shown._partial.items()}
    assert {name: since[name] for name in ("day", "week", "month")} == {
        "day": [],
        "week": ["2024-04-08"],
        "month": ["2024-04-01"],
    }


def test_a_plot_knows_that_a_day_is_not_over_before_the_daily_metrics_have_it(tmp_path: Path) -> None:
    days = days_between(FIRST, LAST)
    shown = UiMetadata(filled(tmp_path, datetime(2024, 4, 10, 7, tzinfo=UTC), days, days[:-1]).catalog)
    shown._cover(LAST)
    assert max(shown._partial["day"]) == str(LAST)
    assert str(days[-2]) not in shown._partial["day"]


def test_what_is_shown_of_a_publication_reads_no_files_of_a_long_past(tmp_path: Path) -> None:
    past = days_between(FIRST - timedelta(300), FIRST - timedelta(200))
    days = days_between(FIRST, LAST)
    lakehouse = filled(tmp_path, datetime(2024, 4, 11, 1, tzinfo=UTC), [*past, *days], [*past, *days])
    declared, published = lakehouse.tables["gold.daily_metrics"], Days(LAST - DAY, LAST)
    table = lakehouse.catalog.iceberg.load_table(declared.name)
    whole = UiMetadata(lakehouse.catalog).begin(declared, table, published).result()
    assert {"days_changed", "plot"} <= whole.keys()
    for name, column in (("gold.daily_metrics", "date"), ("bronze.interactions", "landing_date")):
        for path in files_overlapping(lakehouse.catalog.iceberg.load_table(name), column, past[0], past[-1]):
            Path(path.removeprefix("file://")).unlink()
    assert UiMetadata(lakehouse.catalog).begin(declared, table, published).result() == whole


@pytest.mark.sail
def test_a_chart_has_its_rows_in_one_order_however_they_are_read(make_lake: Callable[..., Lake]) -> None:
    lake = make_lake(())
    for number in range(8):
        day = FIRST + timedelta(number)
        users = [user for user in "abcdef" if (number + ord(user)) % 3]
        lake.rows(
            f"{day}", *[f"{user},{day} 10:0{number}:00,{action},p,{number},1" for user in users for action in ACTIONS]
        )
        lake.rows(f"{day}", *[f"{user},2024-01-01,DE,web,free" for user in users], dataset="users")
    lake.run()
    connection = connect(lake.lakehouse.catalog)
    names = [*lake.lakehouse.catalog.names(), COVERAGE]
    answers = []
    for seed in "ab":
        shuffled = duckdb.connect()
        for schema in ("bronze", "silver", "gold"):
            shuffled.execute(f"CREATE SCHEMA {schema}")
        for name in names:
            rows = connection.sql(f"SELECT one.* FROM {name} AS one ORDER BY hash(one, '{seed}')").to_arrow_table()
            shuffled.execute(f"CREATE TABLE {name} AS FROM rows")
        answers.append(
            {chart.title: shuffled.execute(chart.sql).fetchall() for chart in charts_of(lake.lakehouse.tables)}
        )
    first, second = answers
    for title, rows in first.items():
        assert rows == second[title], title
    assert len(first["New, returning and lost users"]) == 4 * 8
