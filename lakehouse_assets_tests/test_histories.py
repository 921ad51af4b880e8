"""Whatever is landed, late, corrected, replaced, renamed, removed, run or killed: at rest a lake is a clean rebuild."""

import shutil
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.assets.table import declare
from lakehouse_assets.landing.folder import Folder
from lakehouse_assets.landing.redivision import divide_again
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.conftest import CORE, in_zones
from lakehouse_assets_tests.histories import DAYS, FIRST, SEED, Deliveries, Died, PlainLake, comparable, rebuilt

offsets, seeds = st.integers(0, DAYS - 1), st.integers(0, 1 << 20)
zones = st.sampled_from(["UTC", "UTC", "Asia/Kolkata", "America/Los_Angeles", "Pacific/Kiritimati", "Pacific/Niue"])
SETTINGS = load_settings(tables=CORE)


class PlainHistory(RuleBasedStateMachine):
    """Real landing zone and planner; tables in plain Python."""

    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lakehouse-history-"))
        zone = LandingZone(self.folder / "landing")  # files that are landed lie beside it
        self.lake = PlainLake(zone, SETTINGS)
        self.deliveries = Deliveries(zone)
        self.said: list[str] = []
        self.reached["histories"] += 1

    @initialize(content=st.none() | seeds)
    def begin(self, content: int | None) -> None:
        """Empty, or with every day delivered and computed, so that what a later step does not compute again shows."""
        if content is None:
            return
        for offset in range(DAYS):
            self.deliveries.interactions(offset, "a.csv", content + offset)
        for offset in (1, 4):
            self.deliveries.users(offset, content + offset)
        self.lake.run()

    @rule(offset=offsets, name=st.sampled_from(["a.csv", "b.csv"]), content=seeds)
    def deliver(self, offset: int, name: str, content: int) -> None:
        self.deliveries.interactions(offset, name, content)
        self.reached["deliveries"] += 1

    @rule(offset=offsets, content=seeds)
    def deliver_users(self, offset: int, content: int) -> None:
        self.deliveries.users(offset, content)
        self.reached["deliveries"] += 1

    @rule(chosen=seeds, whole_date=st.booleans())
    def remove(self, chosen: int, whole_date: bool) -> None:
        self.deliveries.remove(chosen, whole_date=whole_date)
        self.reached["removals"] += 1

    @rule(chosen=seeds)
    def rename(self, chosen: int) -> None:
        self.deliveries.rename(chosen)

    @rule(name=st.sampled_from(["a.csv", "landed.csv"]), content=seeds)
    def land(self, name: str, content: int) -> None:
        divide_again(self.lake.zone, self.lake.settings, self.said.append)  # as the command does first
        self.deliveries.land(self.lake.settings, name, content)
        self.reached["deliveries"] += 1

    @rule(reporting=zones, given=zones)
    def change_zones(self, reporting: str, given: str) -> None:
        self.lake.under(in_zones(reporting, given))
        self.reached["changes of zone"] += 1

    @rule(publications=st.integers(0, 6))
    def run_and_die(self, publications: int) -> None:
        try:
            self.lake.run(die_after=publications)
        except Died:
            self.reached["crashes"] += 1

    @rule()
    def run(self) -> None:
        self.lake.run()
        self.reached["runs"] += 1
        assert self.lake.run() == 0  # nothing is left to do
        self.equals_a_clean_rebuild()

    def equals_a_clean_rebuild(self) -> None:
        tables = self.lake.tables
        recorded: dict[str, list[date]] = {name: sorted(self.lake.recorded.get(name, {})) for name in tables}
        clean = rebuilt(tables, self.deliveries.zone, self.lake.settings, recorded.__getitem__)
        for name in tables:
            for day in recorded[name]:
                assert comparable(self.lake.rows[name][day]) == comparable(clean[name][day]), (name, day)
        landed = {file.parent.name for file in self.deliveries.files()}
        assert landed <= {f"date={day}" for day in recorded["bronze.interactions"]}

    def teardown(self) -> None:
        self.run()
        self.reached["publications"] += self.lake.publications
        shutil.rmtree(self.folder)


def test_a_day_that_only_a_removed_file_had_becomes_empty(tmp_path: Path) -> None:
    zone = LandingZone(tmp_path)
    lake = PlainLake(zone, SETTINGS)
    file = zone.folder("interactions", date(2024, 2, 27)) / "a.csv"
    file.parent.mkdir(parents=True)
    columns = ",".join(DATASETS["interactions"])
    file.write_text(f"{columns}\na,2024-02-25 10:00:00,edit,p,1,1\n")
    lake.run()
    assert len(lake.read("silver.interactions", date.min, date.max)) == 1
    file.unlink()
    lake.run()
    assert lake.read("silver.interactions", date.min, date.max) == []
    assert {row["total_actions"] for row in lake.read("gold.daily_metrics", date.min, date.max)} == {0}


@pytest.mark.parametrize("late_days", [0, 3])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("UTC", "UTC"), ("Asia/Kolkata", "UTC")),
        (("Asia/Kolkata", "UTC"), ("UTC", "UTC")),
        (("America/Los_Angeles", "UTC"), ("Asia/Kolkata", "UTC")),
        (("Pacific/Kiritimati", "UTC"), ("Pacific/Niue", "UTC")),
        (("Pacific/Niue", "UTC"), ("Pacific/Kiritimati", "UTC")),
        (("Europe/Berlin", "Europe/Berlin"), ("UTC", "America/New_York")),
        (("UTC", "Pacific/Niue"), ("UTC", "Pacific/Kiritimati")),
    ],
)
def test_after_a_change_of_zones_a_lake_is_a_fresh_one(
    tmp_path: Path, before: tuple[str, str], after: tuple[str, str], late_days: int
) -> None:
    zones = LandingZone(tmp_path / "changed"), LandingZone(tmp_path / "fresh")
    lake, fresh = (
        PlainLake(zone, in_zones(*pair, late_days=late_days)) for zone, pair in zip(zones, (before, after), strict=True)
    )
    for one in (lake, fresh):
        deliveries = Deliveries(one.zone)
        for offset in range(DAYS):
            deliveries.interactions(offset, "by_hand.csv", SEED + offset)
        deliveries.users(2, SEED)
        for number in range(3):
            deliveries.land(one.settings, f"landed{number}.csv", SEED + 100 + number)
        one.run()
    assert lake.rows != fresh.rows
    lake.under(fresh.settings)
    lake.run()
    assert lake.run() == 0
    for name in lake.tables:  # to the day: no table has a day more or less
        found, wanted = ({d: comparable(rows) for d, rows in one.rows[name].items()} for one in (lake, fresh))
        assert found == wanted, name


@pytest.mark.parametrize("late_days", [0, 3])
def test_a_correction_reaches_the_day_that_the_zone_puts_its_hours_on_and_no_other(
    tmp_path: Path, late_days: int
) -> None:
    lake = PlainLake(LandingZone(tmp_path), in_zones("Asia/Kolkata", late_days=late_days))

    def corrected(day: int, *rows: str) -> list[int]:
        """The event days that are computed again after a file of a UTC day is replaced."""
        folder = lake.zone.folder("interactions", date(2024, 3, day))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.csv").write_text("\n".join([",".join(DATASETS["interactions"]), *rows]) + "\n")
        found: list[int] = []
        for stale in lake.stamps.phases(lake.zone.listings()):
            found += [stale_day.day for stale_day in stale.get("silver.interactions", ())]
            for work in lake.stamps.work(stale):
                for name in work.tables:
                    lake.publish(name, work.first, work.last)
        assert lake.run() == 0
        return found

    for day in (1, 2, 3):
        corrected(day, f"a,2024-03-0{day} 10:00:00,edit,p,1,1")
    assert corrected(1, "b,2024-03-01 10:00:00,edit,p,1,1") == [1]
    assert corrected(1, "c,2024-03-01 20:00:00,edit,p,1,1") == [1, 2]
    second = lake.read("silver.interactions", date(2024, 3, 2), date(2024, 3, 2))
    assert sorted(row["user_id"] for row in second) == ["a", "c"]
    assert corrected(1, "d,2024-03-01 20:00:00,edit,p,1,1") == [2]
    assert corrected(3, "e,2024-03-03 20:00:00,edit,p,1,1") == [3, 4]
    assert corrected(3, "e,2024-03-03 10:00:00,edit,p,1,1") == [3, 4]
    assert max(lake.recorded["gold.daily_metrics"]) == date(2024, 3, 3)


def test_a_file_landed_under_a_wrong_date_years_off_leaves_nothing_behind(tmp_path: Path) -> None:
    lake = PlainLake(LandingZone(tmp_path), SETTINGS)
    deliveries = Deliveries(lake.zone)
    for offset in range(DAYS):
        deliveries.interactions(offset, "a.csv", SEED + offset)
    lake.run()
    before = {name: sorted(days) for name, days in lake.recorded.items()}
    for wrong in (-70, 70):
        deliveries.interactions(wrong, "a.csv", SEED)
        lake.run()
        assert len(lake.recorded["gold.daily_metrics"]) > 70  # the days between are of the lake too
        shutil.rmtree(lake.zone.folder("interactions", FIRST + timedelta(wrong)))
        lake.run()
        if wrong > 0:  # days without a file at the end may be meant, so it takes `lakehouse cleanup --empty-end`
            assert max(lake.recorded["gold.daily_metrics"]) == FIRST + timedelta(69)
            last = lake.zone.dates("interactions")[-1]
            lake.recorded["bronze.interactions"] = {
                day: stamp for day, stamp in lake.recorded["bronze.interactions"].items() if day <= last
            }
            lake.run()
        assert {name: sorted(days) for name, days in lake.recorded.items()} == before
        assert lake.run() == 0


def test_what_lies_before_the_start_date_is_left_as_it_is(tmp_path: Path) -> None:
    lake = PlainLake(LandingZone(tmp_path), SETTINGS)
    deliveries = Deliveries(lake.zone)
    for offset in range(DAYS):
        deliveries.interactions(offset, "a.csv", SEED + offset)
        deliveries.users(offset, SEED + offset)
    lake.run()
    everything = {name: dict(days) for name, days in lake.rows.items()}
    late = load_settings(tables=CORE, start_date=date(2024, 3, 1))
    fresh = PlainLake(LandingZone(Folder(tmp_path, late.start_date)), late)
    fresh.run()
    assert fresh.run() == 0
    of_files = [name for name, table in declare(late).items() if table.calendar != "events"]
    assert {min(fresh.recorded[name]) for name in of_files if name in fresh.recorded} == {date(2024, 3, 1)}
    lake.zone = fresh.zone
    lake.under(late)
    assert lake.run() == 0
    (lake.zone.folder("interactions", date(2024, 2, 27)) / "a.csv").unlink()
    assert lake.run() == 0
    assert lake.rows == everything


def run_histories(count: int) -> str:
    PlainHistory.reached.clear()
    began = time.monotonic()
    run_state_machine_as_test(
        seed(SEED)(PlainHistory),
        settings=settings(
            max_examples=count,
            stateful_step_count=14,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    return f"seed {SEED}: {dict(PlainHistory.reached)} in {time.monotonic() - began:.0f} s"


def test_random_histories_of_the_planner_end_as_a_clean_rebuild() -> None:
    run_histories(40)
    assert PlainHistory.reached["histories"] >= 40


@pytest.mark.faults
def test_a_thousand_histories_of_the_planner_end_as_a_clean_rebuild(capsys: pytest.CaptureFixture[str]) -> None:
    reached = run_histories(1200)
    with capsys.disabled():
        print(f"\n{reached}")
    assert PlainHistory.reached["histories"] >= 1000
    assert PlainHistory.reached["crashes"] >= 300
