"""A table of a run is staged while Dagster records another, and published by its own step or by none."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterEventType

from lakehouse_assets.assets.table import declare
from lakehouse_assets.engines.sail import SailEngine
from lakehouse_assets.orchestration.ahead import StagedAhead, in_order
from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.runner import DaysLeftOut
from lakehouse_assets.settings import load_settings
from lakehouse_assets.storage.catalog import live_files
from lakehouse_assets.storage.warehouse import Audit

pytestmark = pytest.mark.sail

DAY = "2024-03-01"
TABLES = ("gold.daily_metrics", "gold.daily_session_metrics")


def a_day(lake: Any) -> None:
    lake.rows(DAY, *(f"{user},{DAY} 10:00:00,edit,p,5,1" for user in "abc"))


@pytest.fixture
def stagings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Each table that Sail stages, and whether it does beside the steps."""
    found: list[tuple[str, bool]] = []
    stage = SailEngine.stage

    def noted(self: SailEngine, table: Any, *arguments: Any) -> Any:
        found.append((".".join(table.name()), threading.current_thread() is not threading.main_thread()))
        return stage(self, table, *arguments)

    monkeypatch.setattr(SailEngine, "stage", noted)
    return found


def unpublished(lake: Any) -> list[str]:
    """Data files of tables that no snapshot names."""
    catalog = lake.lakehouse.catalog
    tables = [catalog.load(name) for name in catalog.names()]
    live = {Path(file.file_path.removeprefix("file://")) for table in tables for file in live_files(table)}
    there = {file for table in tables for file in Path(table.location()).joinpath("data").rglob("*.parquet")}
    return sorted(str(file) for file in there - live)


def test_each_table_is_staged_once_and_most_beside_another_step(
    make_lake: Callable[..., Any], stagings: list[tuple[str, bool]]
) -> None:
    lake = make_lake(TABLES)
    a_day(lake)
    lake.run()
    computed = [name for name, _ in stagings]
    assert sorted(computed) == sorted(set(computed))
    assert set(TABLES) < set(computed)
    in_their_step = {name for name, beside in stagings if not beside}
    # the deliveries are read in their own step, and the first table of a run has none before it
    assert {"bronze.interactions", "silver.interactions"} <= in_their_step
    assert len(in_their_step) < len(computed) / 2
    assert unpublished(lake) == []


def test_what_was_staged_for_a_step_that_a_check_stops_is_deleted(
    make_lake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, stagings: list[tuple[str, bool]]
) -> None:
    lake = make_lake(TABLES)
    a_day(lake)
    warehouse = lake.lakehouse.warehouse
    audit = warehouse.audit

    def touched(name: str, *days: Any) -> Audit:
        counted = audit(name, *days)
        breaches = {"duration_within_limits": {days[0]: 1}} if name == "silver.interactions" else counted.breaches
        return Audit(counted.rows, breaches)

    monkeypatch.setattr(warehouse, "audit", touched)
    with pytest.raises(DaysLeftOut, match="duration_within_limits"):
        lake.run()
    stopped = {name for name, beside in stagings if beside and lake.lakehouse.catalog.stamps(name) == {}}
    assert stopped, "no table was staged whose step was stopped"
    assert unpublished(lake) == []


def test_a_table_that_fails_beside_is_told_by_its_own_step_and_the_others_are_computed(
    make_lake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = make_lake(TABLES)
    a_day(lake)
    stage = SailEngine.stage

    def failing(self: SailEngine, table: Any, *arguments: Any) -> Any:
        if table.name()[-1] == "user_days":
            raise RuntimeError("no luck with it")
        return stage(self, table, *arguments)

    monkeypatch.setattr(SailEngine, "stage", failing)
    with pytest.raises(DaysLeftOut) as left:
        lake.run()
    (failed,) = left.value.failed
    assert failed.table == "silver.user_days"
    assert "no luck with it" in str(failed)
    assert lake.table("gold.daily_session_metrics") != []
    assert lake.table("gold.daily_metrics") == []
    assert unpublished(lake) == []


class Files:
    """What an engine has staged."""

    def __init__(self) -> None:
        self.discarded = False

    def discard(self) -> None:
        self.discarded = True


def test_at_the_end_of_a_run_what_no_step_took_is_deleted() -> None:
    of_run: Any = StagedAhead()
    begun, slow = threading.Event(), threading.Event()
    claimed, staged, broken, late, never = Files(), Files(), Files(), Files(), Files()
    assert of_run.beside(lambda: claimed)() is claimed
    of_run.beside(lambda: staged)
    of_run.beside(lambda: broken)

    def slowly() -> Files:
        begun.set()
        slow.wait(30)
        return late

    def in_vain() -> None:
        broken.discarded = True
        raise OSError("it can't be deleted")

    broken.discard = in_vain  # type: ignore[method-assign]
    of_run.beside(slowly)
    of_run.beside(lambda: never)
    assert begun.wait(30)
    threading.Timer(0.2, slow.set).start()
    with pytest.raises(OSError, match="can't be deleted"):
        of_run.end()
    discarded = [one.discarded for one in (claimed, staged, broken, late, never)]
    assert discarded == [False, True, True, True, False]


def test_only_tables_are_begun_whose_inputs_this_process_has_published() -> None:
    tables = declare(load_settings())
    of_run: Any = StagedAhead()
    here = ["bronze.interactions", "silver.interaction_routing", "silver.interactions", "silver.user_days"]

    def after(name: str) -> list[str]:
        of_run.published(name)
        begun = []
        while table := of_run.next_of([tables[name] for name in here]):
            begun.append(table.name)
        return begun

    assert after("bronze.interactions") == ["silver.interaction_routing"]
    assert after("silver.interaction_routing") == ["silver.interactions"]
    assert after("silver.interaction_routing") == []  # a step that is tried again begins by itself
    assert after("silver.interactions") == ["silver.user_days"]
    assert after("silver.user_days") == []
    elsewhere = StagedAhead()
    elsewhere.published("silver.interactions")
    assert elsewhere.next_of([tables["silver.interactions"]]) is None


def test_two_tables_are_begun_at_most_until_a_step_takes_one() -> None:
    tables = declare(load_settings())
    of_run: Any = StagedAhead()
    follow = [tables[name] for name in ("gold.session_metrics", "silver.user_days", "silver.user_version_days")]
    of_run.published("silver.interactions")
    first = of_run.beside(lambda: "staged")
    assert of_run.next_of(follow) is follow[0]
    of_run.beside(lambda: "staged, too")
    assert of_run.next_of(follow) is None
    assert first() == "staged"
    assert of_run.next_of(follow) is follow[1]


def test_the_order_of_steps_is_that_in_which_dagster_takes_them(make_lake: Callable[..., Any]) -> None:
    lake = make_lake(TABLES)
    a_day(lake)
    lake.run()
    with terminal_instance(lake.lakehouse.settings) as instance:
        runs = instance.get_runs()
        assert len(runs) == 2
        for run in runs:
            started = instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_START)
            snapshot = instance.get_execution_plan_snapshot(str(run.execution_plan_snapshot_id))
            needs = {
                step.key: {output.step_key for i in step.inputs for output in i.upstream_output_handles}
                for step in snapshot.steps
            }
            keys = snapshot.step_keys_to_execute
            assert in_order({key: needs[key].intersection(keys) for key in keys}) == [one.step_key for one in started]
