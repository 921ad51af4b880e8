"""How stale days become runs: few of them, over no day that is not to be touched; and which days are final."""

import random
from datetime import date, timedelta
from pathlib import Path

from lakehouse_assets.assets.table import declare, selected
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.planning.shared_runs import grouped
from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.conftest import CORE
from lakehouse_assets_tests.histories import Deliveries, PlainLake, comparable, rebuilt

FIRST = date(2024, 2, 27)
SETTINGS = load_settings(tables=CORE)
TABLES = dict(selected(declare(SETTINGS), CORE))


def days(*numbers: int) -> frozenset[date]:
    return frozenset(FIRST + timedelta(number) for number in numbers)


def test_tables_with_nearly_the_same_days_share_a_run_and_it_goes_over_a_short_gap() -> None:
    inputs: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["b"]}
    stale = {"a": days(0, 1, 5), "b": days(0, 1, 2, 5), "c": days(*range(40))}
    every = dict.fromkeys(stale, days(*range(40)))
    # c, with many more days, stays apart: recomputing a and b with it would cost more than a run
    assert grouped(stale, inputs, every) == [(("a", "b"), days(*range(6))), (("c",), days(*range(40)))]
    assert grouped(stale, inputs, {}) == [(("a",), stale["a"]), (("b",), stale["b"]), (("c",), stale["c"])]
    apart = {"a": days(0, 39)}
    assert grouped(apart, inputs, every) == [(("a",), days(0, 39))]  # a long gap


def test_a_run_never_goes_over_a_day_that_is_not_up_to_date() -> None:
    inputs: dict[str, list[str]] = {"a": [], "b": ["a"]}
    stale = {"a": days(0, 2), "b": days(0, 1, 2)}
    for known in ({"a": days(), "b": days(1)}, {}):  # day 1 of a is being written, was dropped, or was never computed
        assert grouped(stale, inputs, known) == [(("a",), stale["a"]), (("b",), stale["b"])]


def test_a_table_is_never_before_what_it_is_computed_from() -> None:
    chance = random.Random(5)
    names = [f"t{number}" for number in range(12)]
    for _ in range(200):
        inputs = {name: chance.sample(names[:at], min(at, chance.randint(0, 3))) for at, name in enumerate(names)}
        stale = {name: days(*chance.sample(range(30), chance.randint(0, 9))) for name in names}
        known = {name: days(*chance.sample(range(30), chance.randint(0, 30))) - stale[name] for name in names}
        groups = grouped(stale, inputs, known)
        assert sorted(name for tables, _ in groups for name in tables) == sorted(n for n in names if stale[n])
        position = {name: at for at, (tables, _) in enumerate(groups) for name in tables}
        for tables, covered in groups:
            for name in tables:
                assert stale[name] <= covered <= stale[name] | known[name]
                assert all(position[i] <= position[name] for i in inputs[name] if i in position)


def test_a_patchy_lake_of_26_days_is_healed_in_few_runs(tmp_path: Path) -> None:
    """Days computed here and there by hand: it was a run for each stretch of each set of tables with the same days."""
    lake = PlainLake(LandingZone(tmp_path), SETTINGS)
    deliveries = Deliveries(lake.zone)
    for number in range(26):
        deliveries.interactions(number, "a.csv", number)
    deliveries.users(0, 1)
    every, gold = list(TABLES), [name for name in TABLES if name.startswith("gold.")]
    by_hand = ((every, 2, 4), (["bronze.interactions"], 7, 7), (every, 11, 13), (gold, 17, 17), (every, 20, 21))
    for names, first, last in by_hand:
        for name in names:
            lake.publish(name, FIRST + timedelta(first), FIRST + timedelta(last))
    singly, together = 0, 0
    for stale in lake.stamps.phases(lake.zone.listings()):
        singly += len(lake.stamps.work(stale))
        for work in lake.stamps.work(stale, known=stale):
            together += 1
            for name in work.tables:
                lake.publish(name, work.first, work.last)
    assert lake.run() == 0
    assert (singly, together) == (17, 3)
    clean = rebuilt(TABLES, lake.zone, SETTINGS, lambda name: sorted(lake.recorded[name]))
    for name in TABLES:
        for day in clean[name]:
            assert comparable(lake.rows[name][day]) == comparable(clean[name][day]), (name, day)


def test_a_day_is_final_when_all_it_looks_back_on_is_computed_from_the_files_up(tmp_path: Path) -> None:
    lake = PlainLake(LandingZone(tmp_path), SETTINGS)
    deliveries = Deliveries(lake.zone)
    for number in range(14):
        deliveries.interactions(number, "a.csv", number)

    def waits(name: str, number: int) -> str:
        day = FIRST + timedelta(number)
        found = lake.stamps.waiting_for(name, day, day, lake.zone.listings())
        assert found.keys() <= {day}
        return str(found.get(day, ""))

    def compute(names: list[str], first: int, last: int) -> None:
        for name in names:
            lake.publish(name, FIRST + timedelta(first), FIRST + timedelta(last))

    # one day's bronze by hand, and a backfill of three others, of which one is the day of 0 users
    compute(["bronze.interactions"], 7, 7)
    interactions = [name for name in TABLES if "users" not in name and "user_changes" not in name]
    compute(interactions, 10, 12)
    assert waits("gold.daily_metrics", 12) == f"bronze.interactions {FIRST}: not computed yet"
    # what it is computed from directly is there for every day, and from nothing: still not final
    compute(["silver.interactions", "silver.user_days", "gold.daily_metrics"], 0, 12)
    assert waits("gold.daily_metrics", 12) == f"bronze.interactions {FIRST}: not computed yet"
    assert waits("silver.user_days", 7).startswith("bronze.interactions ")
    # its own day alone is; only the window is open
    compute(interactions, 9, 13)
    assert waits("gold.daily_session_metrics", 13) == ""
    assert waits("gold.daily_metrics", 13) == f"bronze.interactions {FIRST}: not computed yet"
    lake.run()
    for name in interactions:
        for number in range(14):
            assert waits(name, number) == ""
    # a correction opens every window that looks back on it
    deliveries.interactions(3, "b.csv", 99)
    day = FIRST + timedelta(3)
    assert waits("gold.daily_metrics", 13) == f"bronze.interactions {day}: b.csv is new"
    assert waits("gold.daily_session_metrics", 13) == ""


def test_an_older_stale_day_does_not_make_later_ones_of_a_table_that_reads_itself_unvouched(tmp_path: Path) -> None:
    lake = PlainLake(LandingZone(tmp_path), SETTINGS)
    deliveries = Deliveries(lake.zone)
    for number in range(6):
        deliveries.users(number, number)
    lake.run()
    deliveries.users(0, 99)
    lake.publish("bronze.users", FIRST, FIRST)
    name, last = "silver.user_changes", FIRST + timedelta(5)
    lake.publish(name, FIRST + timedelta(4), last)
    assert lake.stamps.unvouched(name, days(4, 5)) == frozenset()
    assert {FIRST, last} <= lake.stamps.unvouched(name)
