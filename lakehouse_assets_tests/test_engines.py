"""Both engines compute the same tables, cell by cell: Spark in this process, Sail in one of its own."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.settings import load_settings
from lakehouse_assets.storage.catalog import Catalog
from lakehouse_assets_tests.dirt import deliver

pytestmark = pytest.mark.spark

ZONES: tuple[dict[str, str], ...] = ({}, {"reporting_timezone": "America/New_York", "input_timezone": "Europe/Berlin"})


def published(catalog: Catalog, name: str) -> Counter[str]:
    """A table's rows with how often each is there; `ingested_at` says when a run was and nothing else."""
    table = catalog.load(name)
    assert table is not None, name
    rows = table.scan().to_arrow().to_pylist()
    return Counter(repr({key: value for key, value in row.items() if key != "ingested_at"}) for row in rows)


def differing(make_lake: Callable[..., Any], home: Path, seed: int, zones: dict[str, str]) -> list[str]:
    """Tables that the engines don't agree on, after a delivery and one more that comes late and corrects."""
    lake = make_lake(tables=(), **zones)
    environment = os.environ | {f"LAKEHOUSE_{name.upper()}": value for name, value in zones.items()}
    environment |= {
        "LAKEHOUSE_ENGINE": "sail",
        "LAKEHOUSE_HOME": str(home),
        "LAKEHOUSE_LANDING": lake.lakehouse.settings.landing_uri,
    }
    for name, rows in (("a.csv", 300), ("b.csv", 60)):
        deliver(lake.lakehouse.zone.root, seed, rows, name)
        lake.run()
        command = [sys.executable, "-m", "lakehouse_assets.cli", "run"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
    by_sail, by_spark = Catalog(load_settings(home=home)), lake.lakehouse.catalog
    rows_of = {name: (published(by_sail, name), published(by_spark, name)) for name in lake.lakehouse.tables}
    assert all(spark.total() for name, (_, spark) in rows_of.items() if name != "gold.power_users")
    return [
        f"{name}: {sail - spark} by Sail, {spark - sail} by Spark"
        for name, (sail, spark) in rows_of.items()
        if sail != spark
    ]


def test_both_engines_compute_the_same_tables_of_dirty_and_late_deliveries(
    make_lake: Callable[..., Any], tmp_path: Path
) -> None:
    assert differing(make_lake, tmp_path, 1, ZONES[1]) == []


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(2, 8))
def test_both_engines_compute_the_same_tables_of_many_deliveries(
    make_lake: Callable[..., Any], tmp_path: Path, seed: int
) -> None:
    assert differing(make_lake, tmp_path, seed, ZONES[seed % 2]) == []
