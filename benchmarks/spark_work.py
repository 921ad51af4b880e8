"""What Spark does for each table: seconds, jobs, shuffles; with even users, and with one who has 30 % of all rows.

Everything happens in a temporary folder that is removed at the end. The status is 1 if rows are lost on the way from
the deduplicated interactions to the segments.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.run import LAKEHOUSE, Timed, generate, land, say, timed
from lakehouse_assets.settings import load_settings
from lakehouse_assets.storage.catalog import CATALOG, Catalog
from lakehouse_assets.storage.query import connect

_DONE = re.compile(r"\s+\d+/\d+ (\S+)\s+([\d.]+) s")
_WRITTEN = re.compile(rf"IcebergWrite\(table={CATALOG}\.(\w+\.\w+),")
_LOST = """
with segments as (
    select date, segment, sum(total_actions) as actions, sum(sessions) as sessions
    from gold.segment_metrics group by date, segment
)
select count(*)
from segments join gold.daily_metrics d using (date) join gold.daily_session_metrics s using (date)
where actions <> d.total_actions or (segment <> 'app_version' and segments.sessions <> s.sessions)
"""


@dataclass
class Work:
    """What Spark did for one table."""

    seconds: float = 0.0
    jobs: int = 0
    shuffles: int = 0
    shuffled_bytes: int = 0


def events(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Spark's own record of what it did, in the order it happened."""
    for file in sorted(folder.iterdir()):
        with file.open() as lines:
            yield from map(json.loads, lines)


def work_of_tables(record: Iterator[Mapping[str, Any]], run: Timed) -> dict[str, Work]:
    """Jobs and shuffles of each table by the record, its seconds by what the command said."""
    tables: dict[int, str] = {}
    stages: dict[int, str] = {}
    found: dict[str, Work] = {}
    for event in record:
        kind = event["Event"].rpartition(".")[2]
        if kind == "SparkListenerSQLExecutionStart":
            written = _WRITTEN.search(event["physicalPlanDescription"])
            if written:
                tables[event["rootExecutionId"]] = written[1]
        elif kind == "SparkListenerJobStart":
            execution = event["Properties"].get("spark.sql.execution.id")
            table = tables.get(int(execution), "others") if execution else "others"
            found.setdefault(table, Work()).jobs += 1
            stages |= dict.fromkeys(event["Stage IDs"], table)
        elif kind == "SparkListenerStageCompleted":
            totals = {one["Name"]: int(one["Value"]) for one in event["Stage Info"]["Accumulables"] if "Value" in one}
            written_bytes = totals.get("internal.metrics.shuffle.write.bytesWritten", 0)
            work = found[stages[event["Stage Info"]["Stage ID"]]]
            work.shuffles += bool(written_bytes)
            work.shuffled_bytes += written_bytes
    for _, line in run.lines:
        done = _DONE.match(line)
        if done:
            found.setdefault(done[1], Work()).seconds += float(done[2])
    return found


def measure(root: Path, options: argparse.Namespace, skew: float | None) -> tuple[dict[str, Work], int]:
    """Work by table, and the days of segments whose actions or sessions are not those of the day."""
    record = root / "events"
    record.mkdir(parents=True)
    (root / "spark-defaults.conf").write_text(
        f"spark.eventLog.enabled true\nspark.eventLog.dir {record.as_uri()}\n"
        "spark.eventLog.compress false\nspark.eventLog.rolling.enabled false\n"
    )
    environment = os.environ | {
        "LAKEHOUSE_HOME": str(root / "home"),
        "LAKEHOUSE_ENGINE": "spark",
        "LAKEHOUSE_DRIVER_MEMORY": options.heap,
        "SPARK_CONF_DIR": str(root),
    }
    generate(root / "data", options, environment, *(["--skew", str(skew)] if skew else []))
    land(root / "data", environment)
    shutil.rmtree(root / "data")
    run = timed([*LAKEHOUSE, "run"], environment)
    lost = connect(Catalog(load_settings(home=root / "home"))).sql(_LOST).fetchall()[0][0]
    return work_of_tables(events(record), run), int(lost)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spark_work", description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--users", type=int, default=75_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--heap", default="4g")
    parser.add_argument("--skew", type=float, default=0.3, help="share of all rows that one user has the second time")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="lakehouse-spark-work-") as folder:
        even, lost_even = measure(Path(folder) / "even", options, None)
        skewed, lost_skewed = measure(Path(folder) / "skewed", options, options.skew)
    say(f"{'table':<32}{'s':>8}{'jobs':>6}{'shuffles':>10}{'MB':>8}{'s skewed':>10}{'ratio':>7}")
    layers: Counter[str] = Counter()
    for name, work in even.items():
        layers[name.partition(".")[0]] += work.seconds  # type: ignore[assignment]
        again = skewed.get(name, Work())
        ratio = f"{again.seconds / work.seconds:.2f}" if work.seconds else ""
        shuffled = f"{work.shuffles:>10}{work.shuffled_bytes / 1e6:>8.1f}"
        say(f"{name:<32}{work.seconds:>8.1f}{work.jobs:>6}{shuffled}{again.seconds:>10.1f}{ratio:>7}")
    say(f"seconds by layer: {', '.join(f'{layer} {seconds:.1f}' for layer, seconds in layers.items() if seconds)}")
    say(f"days of segments with other actions or sessions than the day: {lost_even} even, {lost_skewed} skewed")
    return 1 if lost_even or lost_skewed else 0


if __name__ == "__main__":
    sys.exit(main())
