"""Landed files as a frame: files are divided among tasks, and each task parses its part with Arrow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from lakehouse_assets.assets.division import PART
from lakehouse_assets.calendar import month_first
from lakehouse_assets.landing.csv_files import SOURCE_LINE, read_tasks
from lakehouse_assets.landing.headers import Inspection
from lakehouse_assets.landing.row_blocks import chunks
from lakehouse_assets.storage.engine import Engine

PARSED_HERE_BYTES = 8 << 20  # what takes less than Spark needs to start its Python workers is parsed by this process
BYTES_PER_ROW = 60  # of a typical delivered row; only decides how files are grouped


def read_deliveries(
    engine: Engine,
    files: Mapping[date, Sequence[Inspection]],
    columns: Sequence[str],
    ingested_at: datetime,
    rows_per_file: int,
) -> DataFrame:
    """Every row of inspected files as text.

    Args:
        engine: what reads them.
        files: inspected files by landing date.
        columns: expected columns.
        ingested_at: when the run began.
        rows_per_file: rows a data file aims at.

    Returns:
        landing_date, the expected columns, extra_columns (JSON), malformed_row, source_line, source_file, ingested_at,
        and the write task of each row.
    """
    dealt = _deal(files, columns, rows_per_file * BYTES_PER_ROW)
    texts = [*columns, "extra_columns", "malformed_row"]
    schema = T.StructType(
        [
            T.StructField(PART, T.IntegerType()),
            T.StructField("landing_date", T.DateType()),
            *(T.StructField(name, T.StringType()) for name in texts),
            T.StructField(SOURCE_LINE, T.LongType()),
            T.StructField("source_file", T.StringType()),
        ]
    )
    spark = engine.session
    if not dealt:
        return spark.createDataFrame([], schema).withColumn("ingested_at", F.lit(ingested_at))
    part, day, chunk = zip(*dealt, strict=True)
    parts = part[-1] + 1
    tasks = pa.table({PART: pa.array(part, pa.int32()), "landing_date": pa.array(day), "chunk": pa.array(chunk)})
    if sum(inspection.text_size for inspections in files.values() for inspection in inspections) <= PARSED_HERE_BYTES:
        rows = pa.Table.from_batches(read_tasks(tasks.to_batches()), to_arrow_schema(schema))
        frame = engine.divided(spark.createDataFrame(rows, schema), parts)
    else:
        frame = engine.divided(spark.createDataFrame(tasks), parts).mapInArrow(read_tasks, schema)
    return frame.withColumn("ingested_at", F.lit(ingested_at))


def _deal(
    files: Mapping[date, Sequence[Inspection]], columns: Sequence[str], bytes_per_task: int
) -> list[tuple[int, date, str]]:
    """Chunks in order of landing date, dealt into tasks of about ``bytes_per_task`` that never span a month."""
    dealt = []
    task, filled, month = 0, 0, None
    for day in sorted(files):
        for inspection in files[day]:
            for chunk in chunks(inspection, columns):
                size = (min(chunk.end, chunk.size) if chunk.end >= 0 else chunk.size) - chunk.start
                if month is not None and (month != month_first(day) or filled + size > bytes_per_task):
                    task, filled = task + 1, 0
                month, filled = month_first(day), filled + size
                dealt.append((task, day, json.dumps(asdict(chunk))))
    return dealt
