"""Whatever is landed, late, corrected, replaced, renamed, removed, run or killed: at rest a lake is a clean rebuild."""

import shutil
import tempfile
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from lakehouse_assets.io.landing import DATASETS, LandingZone
from lakehouse_assets.settings import load_settings
from lakehouse_assets.tables import declare, selected
from lakehouse_assets_tests.conftest import CORE
from lakehouse_assets_tests.histories import DAYS, SEED, Deliveries, Died, PlainLake, comparable, rebuilt

offsets, seeds = st.integers(0, DAYS - 1), st.integers(0, 1 << 20)
SETTINGS = load_settings()
TABLES = dict(selected(declare(SETTINGS), CORE))


class PlainHistory(RuleBasedStateMachine):
    """Real landing zone and planner; tables in plain Python."""

    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lakehouse-history-"))
        zone = LandingZone(self.folder)
        self.lake = PlainLake(zone, SETTINGS, TABLES)
        self.deliveries = Deliveries(zone)
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
        recorded: dict[str, list[date]] = {name: sorted(self.lake.recorded.get(name, {})) for name in TABLES}
        clean = rebuilt(TABLES, self.deliveries.zone, SETTINGS, recorded.__getitem__)
        for name in TABLES:
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
    lake = PlainLake(zone, SETTINGS, TABLES)
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
