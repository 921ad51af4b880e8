"""Columns of events beyond the six: kept as text, segments of metrics, and named on a lake that is there already."""

from typing import Any

import pytest

from lakehouse_assets.cli.summary import without_values
from lakehouse_assets.landing.deliver import split
from lakehouse_assets.settings import SettingsError, load_settings
from lakehouse_assets_tests.conftest import HEADERS

HEADER = HEADERS["interactions"]
TABLES = ("gold.segment_metrics", "gold.daily_metrics", "gold.segment_performance", "silver.users")
FIRST = ["a,2024-03-01 10:00:00,edit,p,5,1", "b,2024-03-01 11:00:00,edit,,6,1"]  # before anybody thought of plans
SECOND = [
    "a,2024-03-02 10:00:00,edit,p,5,1,pro,x",
    "a,2024-03-02 10:00:00,edit,p,5,1,free,y",  # equal but for its extra columns: the smallest by them counts
    "a,2024-03-02 10:00:00,edit,p,4,1.0,team,z",  # the shorter one counts
    "b,2024-03-02 11:00:00,edit,,6,1, free ,",
    "b,2024-03-02 12:00:00,share,p,6,1,pro,",
    "c,2024-03-02 12:00:00,share,p,6,1,,",
    "c,2024-03-02 12:00:00,hack,p,6,1,pro,",
]


def two_days(lake: Any) -> None:
    lake.deliver("2024-03-01", "\n".join([HEADER, *FIRST]) + "\n")
    lake.deliver("2024-03-02", "\n".join([f"{HEADER},plan,experiment", *SECOND]) + "\n")
    lake.rows("2024-03-01", "a,2024-01-01,DE,ios,free", dataset="users", name="users.csv")


@pytest.fixture
def lake(computed_lake: Any) -> Any:
    return computed_lake(TABLES, two_days)


def kept(lake: Any) -> list[tuple[Any, ...]]:
    names = ("event_date", "user_id", "page_id", "plan")
    return [(str(row["event_date"]), *[row[name] for name in names[1:]]) for row in lake.table(EXTRAS)]


EXTRAS = "silver.interaction_extras"


def test_a_misspelt_column_is_told(lake: Any) -> None:
    named = lake.under(tables=(*TABLES, EXTRAS), extra_columns=("plann",), segments=("country", "contry"))
    work = named.runner.run_stale(named.lakehouse.zone.listings())
    assert without_values(work, named.lakehouse.catalog) == [
        "segments names contry, but no computed row of silver.user_changes has a value for it",
        "extra_columns names plann, but no computed row of silver.interaction_extras has a value for it",
    ]


def test_a_column_named_later_is_kept_for_every_row_and_recomputes_what_uses_it_alone(lake: Any) -> None:
    before = lake.contents()
    named = lake.under(tables=(*TABLES, EXTRAS), extra_columns=("plan",))
    assert {name for name, days in named.stale().items() if days} == {EXTRAS}
    named.run()
    assert kept(named) == [
        ("2024-03-01", "a", "p", None), ("2024-03-01", "b", None, None), ("2024-03-02", "a", "p", "team"),
        ("2024-03-02", "b", None, "free"), ("2024-03-02", "b", "p", "pro"), ("2024-03-02", "c", "p", None),
    ]  # fmt: skip
    assert {name: rows for name, rows in named.contents().items() if name != EXTRAS} == before

    both = named.under(extra_columns=("plan", "experiment"), segments=("country", "plan"))
    assert {name for name, days in both.stale().items() if days} == {
        EXTRAS, "silver.user_changes", "silver.users", "gold.segment_metrics", "gold.segment_performance",
    }  # fmt: skip
    work = both.runner.run_stale(both.lakehouse.zone.listings())
    assert without_values(work, both.lakehouse.catalog) == []
    assert [row["experiment"] for row in both.table(EXTRAS)] == [None, None, "z", None, None, None]
    found = {
        (str(row["date"]), row["segment"], row["value"]): (
            row["daily_active_users"], row["weekly_active_users"], row["total_actions"], row["sessions"],
        )
        for row in both.table("gold.segment_metrics")
    }  # fmt: skip
    assert {key: value for key, value in found.items() if key[1] == "plan"} == {
        ("2024-03-01", "plan", "unknown"): (2, 2, 2, 2),
        ("2024-03-02", "plan", "free"): (1, 1, 1, 2),
        ("2024-03-02", "plan", "pro"): (1, 1, 1, 2),
        ("2024-03-02", "plan", "team"): (1, 1, 1, 1),
        ("2024-03-02", "plan", "unknown"): (1, 3, 1, 1),
    }
    assert "plan" not in both.table("silver.users")[0]
    assert both.table("gold.daily_metrics") == lake.table("gold.daily_metrics")


def test_a_value_inside_an_object_is_found_when_it_is_named_after_landing(make_lake: Any, tmp_path: Any) -> None:
    lake = make_lake(tables=("silver.interactions",))
    file = tmp_path / "events.jsonl"
    event = '{"user_id":"u","timestamp":"2024-03-01 10:00:00","action_type":"edit","page_id":"p","app_version":"1",'
    file.write_text(event + '"properties":{"plan":{"name":"pro"}}}\n')
    settings = lake.lakehouse.settings
    renames = {"duration_ms": "=1"}
    split(lake.lakehouse.zone, file, renames, input_zone=settings.input_zone, reporting_zone=settings.reporting_zone)
    named = lake.under(tables=(EXTRAS,), extra_columns=("plan",), map_interactions={"plan": "properties.plan.name"})
    named.run()
    assert kept(named) == [("2024-03-01", "u", "p", "pro")]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("plan,Plan", "each once"),
        ("a b", "letters, digits"),
        ("duration_ms", "duration_ms is a column of the tables already"),
    ],
)
def test_names_that_can_not_be_extra_columns_are_refused(names: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load_settings(extra_columns=names)
