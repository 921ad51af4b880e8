"""One session for the whole suite, Sail's or Spark's, and lakehouses in temporary folders that share it."""

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse_assets.assets import table
from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.engines.sail import SailEngine, start_sail
from lakehouse_assets.engines.spark import SparkEngine, start_spark
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.planning.planner import Stale
from lakehouse_assets.runner import Runner
from lakehouse_assets.settings import Settings, load_settings
from lakehouse_assets.storage.catalog import Catalog
from lakehouse_assets.storage.engine import Engine
from lakehouse_assets.storage.place import sqlite_file

# What most tests look at; each further table costs every run of every test some tenths of a second.
CORE = (
    "silver.rejected_interactions",
    "silver.interaction_counts",
    "silver.user_counts",
    "silver.users",
    "gold.daily_metrics",
    "gold.monthly_metrics",
    "gold.daily_session_metrics",
)
HEADERS = {name: ",".join(columns) for name, columns in DATASETS.items()}


def in_zones(reporting: str, given: str = "UTC", **others: object) -> Settings:
    """Settings of a lakehouse of the tables most tests look at."""
    return load_settings(tables=CORE, reporting_timezone=reporting, input_timezone=given, **others)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=("sail", "spark"), default="sail", help="what computes the tables")
    parser.addoption("--images", type=Path, metavar="DIR", help="keep the pictures of the browser tests here")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the other engine."""
    other = {"spark": "sail", "sail": "spark"}[config.getoption("--engine")]
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker(other)])
    items[:] = [item for item in items if not item.get_closest_marker(other)]


@pytest.fixture(scope="session")
def catalog_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lakehouse")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["LAKEHOUSE_ENGINE"] = config.getoption("--engine")  # also of the processes that tests start
    # ignored in a script's background, which the processes that tests interrupt would inherit
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def spark(catalog_home: Path) -> Iterator[SparkSession]:
    settings = load_settings(home=catalog_home, driver_memory="2g")
    session = start_sail(settings) if settings.engine == "sail" else start_spark(settings, brief=True)
    yield session
    session.stop()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own on a folder, with room for little."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "lakehouse-test", str(folder)]
    mounted = subprocess.run(options, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs a file system of its own, and this user may not mount one: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Lake:
    """A lakehouse of one test: deliver, run, look."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self.lakehouse = lakehouse
        self.said: list[str] = []
        self.runner = Runner(lakehouse, self.said.append)

    def under(self, **settings: object) -> "Lake":
        """The same lakehouse with further settings."""
        chosen = load_settings(**self.lakehouse.settings.model_dump() | settings)
        return Lake(Lakehouse(chosen, lambda _: self.lakehouse.engine))

    def contents(self) -> dict[str, list[str]]:
        """Every row of every table as text, but for when it was read."""
        return {
            name: [str({k: v for k, v in row.items() if k != "ingested_at"}) for row in self.table(name)]
            for name in self.lakehouse.tables
        }

    def deliver(self, day: str, text: str | bytes, dataset: str = "interactions", name: str = "a.csv") -> Path:
        folder = self.lakehouse.zone.root / dataset / f"date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def rows(self, day: str, *rows: str, dataset: str = "interactions", name: str = "a.csv") -> Path:
        return self.deliver(day, "\n".join([HEADERS[dataset], *rows]) + "\n", dataset, name)

    def run(self) -> list[tuple[tuple[str, ...], str, str]]:
        done = self.runner.run_stale(self.lakehouse.zone.listings())
        return [(work.tables, str(work.first), str(work.last)) for work in done]

    def stale(self) -> Stale:
        """The tables that have days to be computed, with those days and why."""
        found = self.lakehouse.planner.stale(self.lakehouse.zone.listings())
        return {name: days for name, days in found.items() if days}

    def table(self, name: str) -> list[dict]:
        loaded = self.lakehouse.catalog.load(name)
        if loaded is None:
            return []
        rows = loaded.scan().to_arrow().to_pylist()
        return sorted(rows, key=lambda row: [str(value) for value in row.values()])

    def by_day(self, name: str) -> dict[str, dict]:
        return {str(row["date"]): row for row in self.table(name)}


def computed_by(
    patch: pytest.MonkeyPatch, lakehouse: Lakehouse, name: str, spoil: Callable[[DataFrame], DataFrame]
) -> None:
    """Have a table's function spoil its rows, in this lakehouse and in those made from now on."""
    declared = lakehouse.tables[name]

    function, declaration = declared.function, table._DECLARATIONS[name]

    @wraps(function)
    def spoilt(**given: object) -> DataFrame:
        return spoil(function(**given))

    patch.setitem(vars(declared), "function", spoilt)
    changed = declaration._replace(under=lambda settings: replace(declaration.under(settings), function=spoilt))
    patch.setitem(table._DECLARATIONS, name, changed)


@pytest.fixture(scope="session")
def new_records(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Puts Dagster's databases of no run into a lakehouse's folder: a copy, as making them takes 0.3 s each time."""
    made = load_settings(home=tmp_path_factory.mktemp("records"))
    with terminal_instance(made):
        pass

    def put(home: Path) -> None:
        shutil.copytree(made.dagster_path, load_settings(home=home).dagster_path)

    return put


@pytest.fixture(scope="session")
def make_lake(
    spark: SparkSession, catalog_home: Path, pytestconfig: pytest.Config, new_records: Callable[[Path], None]
) -> Callable[..., Lake]:
    """Lakehouses that share the session's catalog; every call empties it first. ``tables=()`` makes all tables."""
    computing = {"engine": pytestconfig.getoption("--engine"), "driver_memory": "2g"}

    def make(tables: Sequence[str] = CORE, **settings: object) -> Lake:
        chosen: Settings = load_settings(home=catalog_home, tables=tables, **computing | settings)
        # in the default warehouse, which is where earlier tests have left tables
        before = load_settings(home=catalog_home, **settings | {"warehouse": ""})
        catalog = Catalog(before)
        for name in catalog.names():
            catalog.iceberg.drop_table(name)
        for folder in (chosen.landing_uri, before.warehouse_uri, chosen.dagster_path):
            shutil.rmtree(folder, ignore_errors=True)
        new_records(catalog_home)

        def engine(catalog: Catalog) -> Engine:
            if pytestconfig.getoption("--engine") == "sail":
                return SailEngine(chosen, lambda: spark)
            return SparkEngine(chosen, catalog, lambda: spark)

        return Lake(Lakehouse(chosen, engine))

    return make


@pytest.fixture(scope="session")
def computed_lake(
    make_lake: Callable[..., Lake], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Sequence[str], Callable[[Lake], object]], Lake]:
    """Lakes of some tables and deliveries that are up to date: computed for the first test, copied for the others."""
    kept: dict[object, Path] = {}

    def made(tables: Sequence[str], deliver: Callable[[Lake], object]) -> Lake:
        lake, asked = make_lake(tables), (tuple(tables), deliver)
        settings = lake.lakehouse.settings
        folders = [Path(settings.landing_uri), settings.dagster_path, Path(settings.warehouse_uri)]
        if asked in kept:
            for folder in folders:
                shutil.copytree(kept[asked] / folder.name, folder, dirs_exist_ok=True)
            _copy_database(kept[asked] / "catalog.db", sqlite_file(settings))
            return lake
        deliver(lake)
        lake.run()
        kept[asked] = tmp_path_factory.mktemp("computed")
        for folder in folders:
            shutil.copytree(folder, kept[asked] / folder.name)
        _copy_database(sqlite_file(settings), kept[asked] / "catalog.db")
        return lake

    return made


def _copy_database(source: Path, target: Path) -> None:
    """Copy what is in a database, so that whoever has the target open sees it."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)
