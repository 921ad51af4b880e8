"""The checks of columns, said once: pandera finds in a frame what Spark's conditions count in it."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from itertools import cycle, islice
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import Column
from lakehouse_assets.assets.table import declare
from lakehouse_assets.settings import load_settings

TABLES = declare(load_settings())
SEED, ROWS = 7, 40
NUMBERS = [-(2**40), -2, -1, 0, 1, 2, 5, 26, 27, 28, 29, 7_199_999, 7_200_000, 7_200_001, 86_399_999, 2**40]
TEXTS = ["edit", "day", "week", "DE", "", "Edit", "first_activity", "late_event", "bad_join_date", "country"]
TEXTS += ["sessions", "sessions_per_user", "page_view", "device_type"]
VALUES: Mapping[str, list[Any]] = {
    "bigint": NUMBERS,
    "double": [-1.5, -1.0, -0.0, 0.0, 0.5, 1.0, 1.000001, 3e9],
    "string": TEXTS,
    "date": [date(2024, 3, 1)],
    "timestamp": [datetime(2024, 3, 1, tzinfo=UTC)],
    "boolean": [True, False],
}


def some_values(column: Column, random: Random) -> list[Any]:
    """Values at the edges of checks, beyond them, and missing ones."""
    return [random.choice([*VALUES[column.kind], None]) for _ in range(ROWS)]


def frame_of(spark: SparkSession, columns: Mapping[str, Column], values: Mapping[str, list[Any]]) -> DataFrame:
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    kinds = ", ".join(f"`{name}` {column.kind}" for name, column in columns.items())
    return spark.createDataFrame([tuple(row.values()) for row in rows], kinds)


@pytest.mark.parametrize("name", TABLES)
def test_pandera_finds_what_spark_counts(spark: SparkSession, name: str) -> None:
    table, random = TABLES[name], Random(f"{SEED} {name}")
    given = {column: some_values(declared, random) for column, declared in table.columns.items()}
    passes = []
    for column, declared in table.columns.items():
        holds = F.lit(True)
        for check in declared.every_check:
            holds = holds & F.coalesce(check.holds(column), F.lit(False))
        passes.append(holds.alias(column))
    verdicts = frame_of(spark, table.columns, given).select(*passes).toArrow().to_pydict()
    good = {
        column: [value for value, holds in zip(values, verdicts[column], strict=True) if holds]
        for column, values in given.items()
    }
    assert all(good.values()), name
    whole = {column: list(islice(cycle(values), ROWS)) for column, values in good.items()}
    assert found_by_pandera(table.schema, frame_of(spark, table.columns, whole)) == set()
    broken = {column for column, holds in verdicts.items() if not all(holds)}
    assert broken, name
    assert found_by_pandera(table.schema, frame_of(spark, table.columns, given)) == broken


def found_by_pandera(schema: Any, frame: DataFrame) -> set[str]:
    """The columns in which pandera finds a value that breaks a check."""
    told = schema.validate(frame).pandera.errors
    return {one["column"] for kind in told.values() for reason in kind.values() for one in reason}


def test_numbers_that_are_none_break_the_contract(spark: SparkSession) -> None:
    frame = spark.createDataFrame(pa.table({"value": [1.0, math.nan, math.inf, -math.inf, None]}))
    [finite] = TABLES["gold.anomalies"].columns["value"].every_check
    assert [row[0] for row in frame.select(finite.holds("value")).collect()] == [True, False, False, False, True]
