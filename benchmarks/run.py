"""Times the lakehouse and the same work in DuckDB on the same generated data, and compares every table of the two.

Everything happens in a temporary folder that is removed at the end. The status is 1 if a table differs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.comparison import TABLES, differences, landed_differently
from benchmarks.warm_days import RESULT
from lakehouse_assets.sample_data.generate import DEFAULT_START

PROJECT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 2 * 3600  # no single command may take longer
SHORT_HISTORY_DAYS = 30
STANDSTILL_SECONDS = 3  # a busy machine wakes a process later than asked, but not this much
EXTRA_DAYS = 3  # one for a process that starts, two for one that stays

LAKEHOUSE = [sys.executable, "-m", "lakehouse_assets.cli"]
_DUCKDB = [sys.executable, "-m", "benchmarks.duckdb_lakehouse"]


class BenchmarkError(RuntimeError):
    """A command failed, so there is nothing to report; the message holds the end of what it said."""


@dataclass(frozen=True)
class Timed:
    """One finished command: its seconds, start of the process included, and its lines with the second each came."""

    seconds: float
    lines: Sequence[tuple[float, str]]


def say(line: str) -> None:
    """A line for the person watching."""
    print(line, flush=True)


def timed(command: Sequence[str], environment: Mapping[str, str]) -> Timed:
    """Run a command to its end, passing on what it says.

    Raises:
        BenchmarkError: it failed or took longer than the limit.
    """
    lines: list[tuple[float, str]] = []
    with tempfile.TemporaryFile("w+") as errors:
        began = time.monotonic()
        with subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            limit = threading.Timer(LIMIT_SECONDS, process.terminate)
            limit.start()
            try:
                for line in process.stdout or ():
                    lines.append((time.monotonic() - began, line.rstrip()))
                    say(f"    {line.rstrip()}")
                status = process.wait()
            finally:
                limit.cancel()
        seconds = time.monotonic() - began
        if status:
            errors.seek(0)
            end = "".join(errors.readlines()[-20:])
            raise BenchmarkError(f"{' '.join(command)} ended with status {status} after {seconds:.0f} s\n{end}")
    say(f"    = {seconds:.1f} s")
    return Timed(seconds, lines)


def generate(folder: Path, options: argparse.Namespace, environment: Mapping[str, str], *more: str) -> None:
    """Make sample files of so many ``rows``, ``users`` and ``days`` as the options say."""
    size = [part for name in ("rows", "users", "days") for part in (f"--{name}", str(vars(options)[name]))]
    timed([*LAKEHOUSE, "generate", *size, *more, "-o", str(folder)], environment)


def land(folder: Path, environment: Mapping[str, str]) -> None:
    """Deliver both of those files, the users on the first day that there are interactions of."""
    timed([*LAKEHOUSE, "land", "interactions", str(folder / "interactions.csv")], environment)
    timed([*LAKEHOUSE, "land", "users", str(folder / "users.csv"), "--date", DEFAULT_START.isoformat()], environment)


def without_start(run: Timed) -> float:
    """Seconds of a `lakehouse run` from its first `… tables` line, where the computing begins, to its `done` line.

    Raises:
        BenchmarkError: it did not print them, so it computed nothing.
    """
    first = next((at for at, line in run.lines if re.search(r": \d+ tables$", line)), None)
    done = next((at for at, line in run.lines if line.startswith("done: ")), None)
    if first is None or done is None:
        raise BenchmarkError("`lakehouse run` computed nothing; it said: " + " / ".join(line for _, line in run.lines))
    return done - first


def note_standstills(found: list[float]) -> None:
    """Note, for ever, how long this process stood still, so that figures of a paused machine are not believed.

    Whoever pauses a benchmark pauses all of its processes, this one too.
    """
    while True:
        before = time.monotonic()
        time.sleep(1)
        lost = time.monotonic() - before - 1
        if lost > STANDSTILL_SECONDS:
            found.append(lost)


class Home:
    """One lakehouse of the benchmark."""

    def __init__(self, folder: Path, heap: str) -> None:
        self.folder = folder
        self.landing = folder / "landing"
        # the defaults, whatever is set outside; the cache holds Java and jars and is no part of the measurement
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("LAKEHOUSE_") or name == "LAKEHOUSE_CACHE"
        } | {
            "LAKEHOUSE_HOME": str(folder),
            "LAKEHOUSE_DRIVER_MEMORY": heap,
            "LAKEHOUSE_TABLES": ",".join(TABLES),  # those that DuckDB makes too
        }

    def __call__(self, *arguments: str | Path) -> Timed:
        """Run a `lakehouse` command in it."""
        return timed([*LAKEHOUSE, *map(str, arguments)], self.environment)

    def export(self, folder: Path) -> Path:
        """Write every table to a Parquet file in a new folder."""
        folder.mkdir()
        for table in TABLES:
            self("export", table, "--format", "parquet", "-o", folder / f"{table}.parquet")
        return folder


class Benchmark:
    """One benchmark in one folder."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.home = Home(folder / "lakehouse", options.heap)
        self.cores = os.cpu_count() or 1  # as many as Spark takes
        self.different: list[str] = []
        self.seconds: dict[str, dict[str, float]] = {}
        self.standstills: list[float] = []
        self.last_day = date.min
        threading.Thread(target=note_standstills, args=(self.standstills,), daemon=True).start()

    def whole(self) -> None:
        """The two sides from the raw file to every table, and whether they agree."""
        options, made = self.options, self.folder / "made"
        say(f"generating {options.rows:,} interactions of {options.users:,} users over {options.days} days")
        kind = ("--uniform",) if options.uniform else ()
        generate(made, options, self.home.environment, "--seed", str(options.seed), *kind)

        say("lakehouse: land")
        land = self.home("land", "interactions", made / "interactions.csv").seconds
        say("DuckDB: the same file split by day")
        split = self._duckdb("split", made / "interactions.csv", self.folder / "duckdb_landing")
        self.seconds["land"] = {"lakehouse": land, "duckdb": split}
        self.different += landed_differently(self.home.landing, self.folder / "duckdb_landing")
        shutil.rmtree(self.folder / "duckdb_landing")

        days = sorted(path.name.removeprefix("date=") for path in (self.home.landing / "interactions").iterdir())
        self.last_day = date.fromisoformat(days[-1])
        self.home("land", "users", made / "users.csv", "--date", days[0])
        if (made / "interactions_late.csv").exists():
            self.home("land", "interactions", made / "interactions_late.csv", "--date", days[-1])

        say("lakehouse: run, from nothing")
        run = self.home("run").seconds
        say("DuckDB: the same tables from the same landed files")
        build = self._compare("whole")
        self.seconds["run"] = {"lakehouse": run, "duckdb": build}

    def more_days(self) -> None:
        """What one more day costs after the whole history, and after a short one that ends on the same day."""
        extra = self._extra_days()
        short = self._short_home()
        say(f"lakehouse: run, the last {SHORT_HISTORY_DAYS} days from nothing")
        short("run")
        for history, home in ((self.options.days, self.home), (SHORT_HISTORY_DAYS, short)):
            self.seconds[f"one more day after {history}"] = _one_more_day(home, history, extra)
        say("DuckDB: every table again, now with the days that came one by one")
        self._compare("grown")

    def report(self) -> dict[str, Any]:
        """Everything found, ready for JSON."""
        return {
            "parameters": {
                name: value for name, value in vars(self.options).items() if name not in ("output", "more_day")
            },
            "machine": {
                "cores": self.cores,
                "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
                "system": platform.platform(),
                "python": platform.python_version(),
                **{name: version(name) for name in ("pyspark", "dagster", "duckdb")},
            },
            "seconds": {
                step: {name: round(value, 3) for name, value in found.items()} for step, found in self.seconds.items()
            },
            "ratios": {name: round(value, 3) for name, value in self._ratios().items()},
            "stood_still_seconds": round(sum(self.standstills), 1),
            "differences": self.different,
        }

    def _ratios(self) -> dict[str, float]:
        found = {
            f"{step}: lakehouse / DuckDB": self.seconds[step]["lakehouse"] / self.seconds[step]["duckdb"]
            for step in ("land", "run")
        }
        long, short = (
            self.seconds.get(f"one more day after {days}") for days in (self.options.days, SHORT_HISTORY_DAYS)
        )
        if long and short:
            found |= {
                f"one more day, {name}: after {self.options.days} / after {SHORT_HISTORY_DAYS}": long[name]
                / short[name]
                for name in long
            }
        return found

    def _duckdb(self, step: str, source: Path, target: Path) -> float:
        memory = self.options.heap.replace("g", "GiB").replace("m", "MiB")
        command = [*_DUCKDB, step, str(source), str(target), "--threads", str(self.cores), "--memory", memory]
        return timed(command, os.environ).seconds

    def _compare(self, name: str) -> float:
        """Build the tables in DuckDB and compare them with the lakehouse's; the seconds of the build."""
        tables = self.folder / f"duckdb_{name}"
        seconds = self._duckdb("build", self.home.landing, tables)
        say(f"comparing {len(TABLES)} tables")
        exports = self.home.export(self.folder / f"exports_{name}")
        found = differences(exports, tables)
        self.different += [f"{name}: {sentence}" for sentence in found]
        say(f"    {len(found)} differences")
        shutil.rmtree(exports)
        shutil.rmtree(tables)
        return seconds

    def _extra_days(self) -> list[tuple[date, Path]]:
        """The files of the days after the last: the rows of the same weekdays a week before, moved by seven days.

        A day made like this is as busy as any, and no row of the other days is missing from them.
        """
        found = []
        for number in range(1, EXTRA_DAYS + 1):
            day = self.last_day + timedelta(number)
            model = day - timedelta(7)
            rows = (self.home.landing / "interactions" / f"date={model}" / "interactions.csv").read_text("utf-8")
            path = self.folder / "extra" / f"{day}.csv"
            path.parent.mkdir(exist_ok=True)
            path.write_text(rows.replace(str(model), str(day)), "utf-8")
            found.append((day, path))
        return found

    def _short_home(self) -> Home:
        """A lakehouse with the deliveries of the last days only, and the users."""
        short = Home(self.folder / "short", self.options.heap)
        shutil.copytree(self.home.landing / "users", short.landing / "users")
        before = f"date={self.last_day - timedelta(SHORT_HISTORY_DAYS)}"
        for folder in (self.home.landing / "interactions").iterdir():
            if folder.name > before:
                shutil.copytree(folder, short.landing / "interactions" / folder.name)
        return short


def _one_more_day(home: Home, history: int, extra: Sequence[tuple[date, Path]]) -> dict[str, float]:
    """Seconds of one more day: in a process that starts, the same without its start, and in one that is warm."""
    (day, file), *later = extra
    home("land", "interactions", file, "--date", str(day))
    say(f"lakehouse: run, one more day after {history}")
    run = home("run")
    say("lakehouse: two more days in one process that stays")
    warm = timed(
        [sys.executable, "-m", "benchmarks.warm_days", *(str(part) for one in later for part in one)], home.environment
    )
    return {
        "with start": run.seconds,
        "without start": without_start(run),
        "warm": next(float(line.removeprefix(RESULT)) for _, line in warm.lines if line.startswith(RESULT)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print what it found and write it as JSON."""
    options = _parser().parse_args(arguments)
    if options.more_day and options.days <= SHORT_HISTORY_DAYS:
        print(f"--more-day needs more than --days {SHORT_HISTORY_DAYS}", file=sys.stderr)
        return 2
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="lakehouse-benchmark-") as folder:
            benchmark = Benchmark(Path(folder), options)
            benchmark.whole()
            if options.more_day:
                benchmark.more_days()
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    report = benchmark.report()
    _print(report)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    say(f"in {options.output}; {time.monotonic() - began:.0f} s in all")
    return 1 if benchmark.different else 0


def _print(report: Mapping[str, Any]) -> None:
    say("")
    for step, found in report["seconds"].items():
        say(f"{step:<28}" + "".join(f"   {name} {value:.1f} s" for name, value in found.items()))
    for name, value in report["ratios"].items():
        say(f"{name:<60}{value:8.2f}")
    if report["stood_still_seconds"]:
        say(f"the machine or this process was paused for {report['stood_still_seconds']} s: no figure above is good")
    if not report["differences"]:
        say(f"all {len(TABLES)} tables of the two sides are the same")
    for sentence in report["differences"]:
        say(f"DIFFERENT {sentence}")


def _heap(text: str) -> str:
    if not re.fullmatch(r"\d+[gm]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory such as 4g")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=25_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--uniform", action="store_true", help="rows drawn uniformly, in no order, nothing wrong")
    parser.add_argument("--heap", type=_heap, default="4g", help="Spark's heap and DuckDB's memory limit")
    parser.add_argument("--more-day", action="store_true", help="also what one more day costs after all and after 30")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("benchmark.json"), metavar="FILE.json", help="default benchmark.json"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
