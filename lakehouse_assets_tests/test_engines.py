"""Both engines compute the same tables, cell by cell: Spark in this process, Sail in one of its own.

`LAKEHOUSE_SEED` chooses the deliveries; what differed once is told in docs/decisions/0016-two-engines.md.
"""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from lakehouse_assets.settings import load_settings
from lakehouse_assets.storage.catalog import Catalog
from lakehouse_assets_tests import dirt
from lakehouse_assets_tests.conftest import HEADERS, Lake
from lakehouse_assets_tests.histories import SEED
from lakehouse_assets_tests.sail_process import COMPOSED, SailProcess, composed, sail_process
from lakehouse_assets_tests.test_campaigns import count
from lakehouse_assets_tests.test_golden import CASES, GOLDEN

pytestmark = pytest.mark.spark

REACHED: Counter[str] = Counter()


@pytest.fixture(scope="module")
def sail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SailProcess]:
    """Sail on a machine in another zone."""
    log = tmp_path_factory.mktemp("sail") / "log"
    with sail_process(log, TZ="Pacific/Auckland", LAKEHOUSE_DRIVER_MEMORY="2g") as process:
        yield process


def difference(name: str, by_sail: pa.Table, by_spark: pa.Table) -> str:
    """Rows that the engines don't agree on to the last bit, or how often one is there; the empty text if none.

    `ingested_at` says when a run was and nothing else.
    """
    compared = [column for column in by_spark.column_names if column != "ingested_at"]
    REACHED["cells"] += by_spark.num_rows * len(compared)
    sail, spark = (
        Counter(repr(list(row.values())) for row in t.select(compared).to_pylist()) for t in (by_sail, by_spark)
    )
    return "" if sail == spark else f"{name}: {[*(sail - spark)][:3]} by Sail, {[*(spark - sail)][:3]} by Spark"


# --- The transforms of every table ------------------------------------------------------------------------------------


def differing(spark: SparkSession, sail: SailProcess, landing: Path) -> list[str]:
    """Tables that the engines don't make alike of a landing zone."""
    with tempfile.TemporaryDirectory() as folder:
        sail.do("compose", str(landing), folder)
        by_sail = {name: pq.read_table(Path(folder) / f"{name}.parquet") for name in COMPOSED}
    by_spark = composed(spark, landing)
    REACHED["inputs"] += 1
    found = [difference(name, by_sail[name], by_spark[name]) for name in COMPOSED]
    return [one for one in found if one]


@pytest.mark.faults
@pytest.mark.parametrize("case", CASES)
def test_both_engines_make_the_golden_tables_alike(
    spark: SparkSession, sail: SailProcess, tmp_path: Path, case: str
) -> None:
    landing = shutil.copytree(GOLDEN / case / "given", tmp_path / "given")
    [*given] = landing.iterdir()
    days = [next(dataset.iterdir()).name for dataset in given]
    for dataset in HEADERS.keys() - {path.name for path in given}:  # a file without a good row
        dirt.write_file(landing / dataset / days[0] / "none.csv", HEADERS[dataset].split(","), [])
    assert differing(spark, sail, landing) == []


FIRST = date(2023, 12, 20)  # over the turn of a year and a leap day
# days that windows of 7, 28 and 30 days, weeks and months begin, end and forget on, and what is unusual after 8 weeks
days = st.sampled_from([0, 1, 2, 3, 6, 7, 8, 12, 27, 28, 29, 30, 31, 57, 58, 64, 65, 70, 71, 72])
users = st.sampled_from([*dirt.USERS, *(f"u{number}" for number in range(40))])
times = st.one_of(
    st.builds(lambda clock, tail: f"{{day}} {clock}{tail}", st.sampled_from(dirt.CLOCKS), st.sampled_from(dirt.TAILS)),
    st.times().map(lambda time: f"{{day}}T{time.isoformat('microseconds')}"),
    st.times().map(lambda time: f"{{day}} {time.isoformat('seconds')}"),
    st.sampled_from(dirt.TIMES),
)
durations = st.one_of(
    st.sampled_from([*dirt.DURATIONS, *dirt.FURTHER_DURATIONS]),
    st.integers(0, 7_200_001).map(str),
    st.integers(0, 20_000).map(str),
)
versions = st.sampled_from([*dirt.VERSIONS, *(f"2.{number}.0" for number in range(4))])
events = st.tuples(users, times, st.sampled_from(dirt.ACTIONS), st.sampled_from(dirt.PAGES), durations, versions)
lags = st.sampled_from([0] * 8 + [1, 2, 3, 4, -1])
joins = st.one_of(st.sampled_from(dirt.JOINED), st.dates(date(2023, 1, 1), date(2024, 3, 1)).map(str))
people = st.tuples(
    users, joins, st.sampled_from(dirt.COUNTRIES), st.sampled_from(dirt.DEVICES), st.sampled_from(dirt.PLANS)
)
delivered = st.lists(st.tuples(days, lags, events, st.integers(1, 3)), min_size=60, max_size=250)
snapshots = st.lists(st.tuples(days, people), min_size=5, max_size=80)
Deliveries = list[tuple[int, int, tuple[str, ...], int]]


def write(landing: Path, events: Deliveries, people: list[tuple[int, tuple[str, ...]]]) -> None:
    """Files of rows as hypothesis drew them, some rows more than once."""
    files: dict[Path, list[list[str]]] = {}
    for day, lag, (user, time, *rest), often in events:
        happened = FIRST + timedelta(day)
        row = [user, time.format(day=happened), *rest]
        files.setdefault(landing / "interactions" / f"date={happened + timedelta(lag)}" / "a.csv", []).extend(
            [row] * often
        )
    for day, person in people:
        files.setdefault(landing / "users" / f"date={FIRST + timedelta(day)}" / "u.csv", []).append([*person])
    for path, written in files.items():
        dirt.write_file(path, HEADERS[path.parent.parent.name].split(","), written)


def try_inputs(spark: SparkSession, sail: SailProcess, examples: int) -> None:
    @seed(SEED)
    @settings(
        phases=[Phase.generate],  # a smaller example costs both engines a run of every table a step
        verbosity=Verbosity.quiet,
        database=None,
        deadline=None,
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
    )
    @given(events=delivered, people=snapshots)
    def attempt(events: Deliveries, people: list[tuple[int, tuple[str, ...]]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), events, people)
            assert differing(spark, sail, Path(folder)) == []

    attempt()


def test_both_engines_make_the_same_tables_of_random_input(spark: SparkSession, sail: SailProcess) -> None:
    try_inputs(spark, sail, 2)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_both_engines_make_the_same_tables_of_much_random_input(
    spark: SparkSession, sail: SailProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    REACHED.clear()
    try_inputs(spark, sail, count(40))
    with capsys.disabled():
        print(f"\nseed {SEED}: {dict(REACHED)}", flush=True)


# --- Lakes: files, Dagster, staging and commits -----------------------------------------------------------------------

SETTINGS: tuple[Mapping[str, Any], ...] = (
    {"reporting_timezone": "America/New_York", "input_timezone": "Europe/Berlin"},
    {},
    {"reporting_timezone": "Asia/Kolkata", "late_days": 0, "session_gap_seconds": 600},
    {"reporting_timezone": "Pacific/Kiritimati", "input_timezone": "Pacific/Niue", "max_duration_ms": 100},
    {"reporting_timezone": "Australia/Lord_Howe", "input_timezone": "America/St_Johns", "segments": "plan,country"},
    {"reporting_timezone": "Africa/Casablanca", "allowed_actions": "edit,hack,page_view", "late_days": 1},
)


def histories_differ(
    make_lake: Callable[..., Lake], sail: SailProcess, home: Path, seed: int, chosen: Mapping[str, Any]
) -> list[str]:
    """Tables that the engines don't agree on after any of a history's runs: dirt, then late, corrected and removed."""
    lake = make_lake(tables=(), **chosen)
    landing, chance = lake.lakehouse.zone.root, random.Random(seed)
    found = []

    def compare() -> None:
        lake.run()
        sail.do("run", {"home": str(home), "landing": str(landing), "engine": "sail", **chosen})
        by_sail = Catalog(load_settings(home=home))
        for name in lake.lakehouse.tables:
            tables = [catalog.iceberg.load_table(name) for catalog in (by_sail, lake.lakehouse.catalog)]
            found.append(difference(name, *(table.scan().to_arrow() for table in tables)))
        REACHED["comparisons"] += 1

    dirt.deliver(landing, seed, 300, "a.csv")
    compare()
    dirt.deliver(landing, seed, 60, "b.csv")  # late
    dirt.deliver(landing, seed + 1000, 40, "b.csv")  # where both have a date the second stands
    files = sorted(landing.glob("interactions/date=*/a.csv"))
    removed, corrected = chance.sample(files, 2)
    removed.unlink()
    shutil.copy(chance.choice(sorted(landing.glob("interactions/date=*/b.csv"))), corrected)
    compare()
    return [one for one in found if one]


def test_both_engines_publish_the_same_tables_of_late_and_corrected_deliveries(
    make_lake: Callable[..., Lake], sail: SailProcess, tmp_path: Path
) -> None:
    assert histories_differ(make_lake, sail, tmp_path, SEED, SETTINGS[0]) == []


@pytest.mark.faults
@pytest.mark.parametrize("chosen", SETTINGS, ids=lambda chosen: ",".join(map(str, chosen.values())))
def test_both_engines_publish_the_same_tables_under_other_settings(
    make_lake: Callable[..., Lake],
    sail: SailProcess,
    tmp_path: Path,
    chosen: Mapping[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    REACHED.clear()
    assert histories_differ(make_lake, sail, tmp_path, SEED, chosen) == []
    with capsys.disabled():
        print(f"\nseed {SEED}, {dict(chosen)}: {dict(REACHED)}", flush=True)
