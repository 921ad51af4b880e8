"""Times the lakehouse with each engine and the same work in DuckDB on the same generated data, and compares all tables.

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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.comparison import TABLES, differences, digests, landed_differently
from benchmarks.warm_days import RESULT
from lakehouse_assets.sample_data.generate import DEFAULT_START
from lakehouse_assets.settings import load_settings

PROJECT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 2 * 3600  # no single command may take longer
SHORT_HISTORY_DAYS = 30
PEAK_SECONDS = 0.2  # between two looks at the memory of a process
STANDSTILL_SECONDS = 3  # a busy machine wakes a process later than asked, but not this much
STARTED_DAYS, WARM_DAYS = 3, 3  # each in a process of its own; in one process, after a day that warms it up
EXTRA_DAYS = STARTED_DAYS + 1 + WARM_DAYS
ENGINES = ("sail", "spark")

LAKEHOUSE = [sys.executable, "-m", "lakehouse_assets.cli"]
_DUCKDB = [sys.executable, "-m", "benchmarks.duckdb_lakehouse"]


class BenchmarkError(RuntimeError):
    """A command failed, so there is nothing to report; the message holds the end of what it said."""


@dataclass(frozen=True)
class Timed:
    """One finished command, start of the process included.

    Attributes:
        seconds: of wall clock.
        lines: what it said, with the second each line came.
        processor_seconds: of the process and of those it started and waited for.
        peak_gib: most memory that any one of them had resident; 0 where the system has no /proc.
    """

    seconds: float
    lines: Sequence[tuple[float, str]]
    processor_seconds: float
    peak_gib: float


@dataclass(frozen=True)
class Goal:
    """What a figure is to be at most, for a size of data.

    Attributes:
        rows: of the data.
        days: of the data.
        step: which figure.
        engine: whose.
        most: seconds; or times DuckDB's seconds in the same run.
        times_duckdb: which of the two.
    """

    rows: int
    days: int
    step: str
    engine: str
    most: float
    times_duckdb: bool = False


SHARED, ALL, MORE = "13 tables", "all tables", "one more day after 365"
GOALS = (
    Goal(1_000_000, 365, f"{MORE}, with start", "sail", 7),
    Goal(1_000_000, 365, f"{MORE}, warm", "sail", 3),
    Goal(1_000_000, 365, ALL, "sail", 20),
    Goal(30_000_000, 365, SHARED, "sail", 2.0, times_duckdb=True),
    Goal(30_000_000, 365, ALL, "sail", 260),
)


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
            peaks, over = [0], threading.Event()
            watch = threading.Thread(target=note_peaks, args=(process.pid, peaks, over))
            watch.start()
            try:
                for line in process.stdout or ():
                    lines.append((time.monotonic() - began, line.rstrip()))
                    say(f"    {line.rstrip()}")
                _, ended, used = os.wait4(process.pid, 0)
                status = process.returncode = os.waitstatus_to_exitcode(ended)
            finally:
                limit.cancel()
                over.set()
                watch.join()
        seconds = time.monotonic() - began
        if status:
            errors.seek(0)
            end = "".join(errors.readlines()[-20:])
            raise BenchmarkError(f"{' '.join(command)} ended with status {status} after {seconds:.0f} s\n{end}")
    found = Timed(seconds, lines, used.ru_utime + used.ru_stime, peaks[0] / 2**30)
    say(f"    = {seconds:.1f} s, {found.processor_seconds:.1f} of a processor, {found.peak_gib:.2f} GiB")
    return found


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
    first = next((at for at, line in run.lines if re.search(r": \d+ tables?, ", line)), None)
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


def note_peaks(root: int, found: list[int], over: threading.Event) -> None:
    """Note, until it is over, the most bytes that a process, or one that it started, has had resident so far.

    What `wait4` says of that begins with the memory of this process, from which the other one was forked.
    """
    while not over.wait(PEAK_SECONDS):
        found[0] = max(found[0], *map(_peak_bytes, _with_children(root)))


def _with_children(process: int) -> Iterator[int]:
    yield process
    with suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _with_children(int(child))


def _peak_bytes(process: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


class Home:
    """One lakehouse of the benchmark."""

    def __init__(self, folder: Path, engine: str, heap: str, tables: Sequence[str] = ()) -> None:
        self.folder, self.engine = folder, engine
        self.landing = folder / "landing"
        # the defaults, whatever is set outside; the cache holds Java and jars and is no part of the measurement
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("LAKEHOUSE_") or name == "LAKEHOUSE_CACHE"
        } | {
            "LAKEHOUSE_HOME": str(folder),
            "LAKEHOUSE_ENGINE": engine,
            "LAKEHOUSE_DRIVER_MEMORY": heap,
            "LAKEHOUSE_TABLES": ",".join(tables),
        }

    def __call__(self, *arguments: str | Path) -> Timed:
        """Run a `lakehouse` command in it."""
        return timed([*LAKEHOUSE, *map(str, arguments)], self.environment)

    def export(self, folder: Path) -> Path:
        """Write every table that DuckDB makes too to a Parquet file in a new folder."""
        folder.mkdir()
        for table in TABLES:
            self("export", table, "--format", "parquet", "-o", folder / f"{table}.parquet")
        return folder


class Benchmark:
    """One benchmark in one folder."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.first = Home(folder / "landed", options.engines[0], options.heap, TABLES)
        self.homes: list[Home] = []  # of the step before
        self.cores = os.cpu_count() or 1  # as many as an engine takes
        self.different: list[str] = []
        self.found: dict[str, dict[str, Timed]] = {}  # by step, and by engine or `duckdb`
        self.standstills: list[float] = []
        self.last_day = date.min
        threading.Thread(target=note_standstills, args=(self.standstills,), daemon=True).start()

    def landed(self) -> None:
        """Both sides' landing of the raw files, and whether they agree."""
        options, made = self.options, self.folder / "made"
        say(f"generating {options.rows:,} interactions of {options.users:,} users over {options.days} days")
        kind = ("--uniform",) if options.uniform else ()
        generate(made, options, self.first.environment, "--seed", str(options.seed), *kind)

        say("lakehouse: land")
        land = self.first("land", "interactions", made / "interactions.csv")
        say("DuckDB: the same file split by day")
        split = self._duckdb("split", made / "interactions.csv", self.folder / "duckdb_landing")
        self.found["land"] = {"lakehouse": land, "duckdb": split}
        self.different += landed_differently(self.first.landing, self.folder / "duckdb_landing")
        shutil.rmtree(self.folder / "duckdb_landing")

        days = sorted(path.name.removeprefix("date=") for path in (self.first.landing / "interactions").glob("date=*"))
        self.last_day = date.fromisoformat(days[-1])
        self.first("land", "users", made / "users.csv", "--date", days[0])
        if (made / "interactions_late.csv").exists():
            self.first("land", "interactions", made / "interactions_late.csv", "--date", days[-1])
        shutil.rmtree(made)

    def shared_tables(self) -> None:
        """The tables that DuckDB makes too, from nothing, with each engine and with DuckDB."""
        self.homes = [self._home(engine, "13", TABLES) for engine in self.options.engines]
        self.found[SHARED] = {home.engine: self._run(home, "13 tables from nothing") for home in self.homes}
        self.found[SHARED]["duckdb"] = self._compare("from nothing")

    def all_tables(self) -> None:
        """Every table from nothing with each engine, and whether the engines agree in every row."""
        for home in self.homes:
            shutil.rmtree(home.folder)
        self.homes = [self._home(engine, "all") for engine in self.options.engines]
        self.found[ALL] = {home.engine: self._run(home, "all tables from nothing") for home in self.homes}
        self._compare_engines()

    def more_days(self) -> None:
        """What one more day costs after the whole history, and after a short one that ends on the same day."""
        extra = self._extra_days()
        for home in self.homes:
            short = self._short_home(home)
            self._run(short, f"the last {SHORT_HISTORY_DAYS} days from nothing")
            for name, took in _more_days({self.options.days: home, SHORT_HISTORY_DAYS: short}, extra).items():
                self.found.setdefault(name, {})[home.engine] = took
        say("DuckDB: every table again, now with the days that came one by one")
        self._compare("grown")
        self._compare_engines()

    def report(self) -> dict[str, Any]:
        """Everything found, ready for JSON."""
        figures = {"seconds": 1, "processor_seconds": 1, "peak_gib": 2}
        return {
            "parameters": {
                name: value for name, value in vars(self.options).items() if name not in ("output", "more_day")
            },
            "machine": {
                "cores": self.cores,
                "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
                "system": platform.platform(),
                "python": platform.python_version(),
                **{name: version(name) for name in ("pyspark", "pysail", "dagster", "duckdb")},
            },
            **{
                figure: {
                    step: {who: round(getattr(took, figure), digits) for who, took in found.items()}
                    for step, found in self.found.items()
                }
                for figure, digits in figures.items()
            },
            "ratios": {name: round(value, 3) for name, value in self._ratios().items()},
            "goals": self._goals(),
            "stood_still_seconds": round(sum(self.standstills), 1),
            "differences": self.different,
        }

    def _ratios(self) -> dict[str, float]:
        found = {}
        for step in ("land", SHARED):
            took = {who: one.seconds for who, one in self.found.get(step, {}).items()}
            found |= {f"{step}: {who} / DuckDB": took[who] / took["duckdb"] for who in took if who != "duckdb"}
        for step, by_engine in self.found.items():
            short = self.found.get(step.replace(f"after {self.options.days},", f"after {SHORT_HISTORY_DAYS},"))
            if short and short is not by_engine:
                found |= {
                    f"{step} / after {SHORT_HISTORY_DAYS}: {who}": took.seconds / short[who].seconds
                    for who, took in by_engine.items()
                }
        return found

    def _goals(self) -> list[str]:
        """What was reached of the goals for data of this size."""
        said = []
        for goal in GOALS:
            took = self.found.get(goal.step, {})
            if (goal.rows, goal.days) == (self.options.rows, self.options.days) and goal.engine in took:
                unit = took["duckdb"].seconds if goal.times_duckdb else 1.0
                value, name = took[goal.engine].seconds / unit, "x DuckDB" if goal.times_duckdb else "s"
                reached = "reached" if value <= goal.most else "MISSED"
                said.append(f"{goal.step}, {goal.engine}: {value:.1f} {name}, at most {goal.most:g}: {reached}")
        return said

    def _home(self, engine: str, name: str, tables: Sequence[str] = ()) -> Home:
        home = Home(self.folder / f"{engine}_{name}", engine, self.options.heap, tables)
        _link(self.first.landing, home.landing)
        return home

    def _run(self, home: Home, what: str) -> Timed:
        say(f"{home.engine}: run, {what}")
        return home("run")

    def _duckdb(self, step: str, source: Path, target: Path) -> Timed:
        memory = self.options.heap.replace("g", "GiB").replace("m", "MiB")
        command = [*_DUCKDB, step, str(source), str(target), "--threads", str(self.cores), "--memory", memory]
        return timed(command, os.environ)

    def _compare(self, name: str) -> Timed:
        """Build the tables in DuckDB and compare them with those of each engine; the build."""
        say("DuckDB: 13 tables from the same landed files")
        tables = self.folder / "duckdb"
        took = self._duckdb("build", self.homes[0].landing, tables)
        for home in self.homes:
            say(f"comparing {len(TABLES)} tables of {home.engine} and DuckDB")
            exports = home.export(self.folder / "exports")
            found = differences(exports, tables)
            self.different += [f"{name}, {home.engine}: {sentence}" for sentence in found]
            say(f"    {len(found)} differences")
            shutil.rmtree(exports)
        shutil.rmtree(tables)
        return took

    def _compare_engines(self) -> None:
        first, *others = [(home.engine, digests(load_settings(home=home.folder))) for home in self.homes]
        for engine, found in others:
            unlike = sorted(name for name in found.keys() | first[1].keys() if found.get(name) != first[1].get(name))
            self.different += [f"{name}: {engine} and {first[0]} differ" for name in unlike]
            say(f"{len(found)} tables of {engine} and {first[0]} compared, {len(unlike)} differ")

    def _extra_days(self) -> list[tuple[date, Path]]:
        """The files of the days after the last: the rows of the same weekdays a week before, moved by seven days.

        A day made like this is as busy as any, and no row of the other days is missing from them.
        """
        found = []
        for number in range(1, EXTRA_DAYS + 1):
            day = self.last_day + timedelta(number)
            model = day - timedelta(7)
            rows = (self.first.landing / "interactions" / f"date={model}" / "interactions.csv").read_text("utf-8")
            path = self.folder / "extra" / f"{day}.csv"
            path.parent.mkdir(exist_ok=True)
            path.write_text(rows.replace(str(model), str(day)), "utf-8")
            found.append((day, path))
        return found

    def _short_home(self, home: Home) -> Home:
        """A lakehouse with the deliveries of the last days only, and the users."""
        tables = [name for name in home.environment["LAKEHOUSE_TABLES"].split(",") if name]
        short = Home(self.folder / f"{home.engine}_short", home.engine, self.options.heap, tables)
        _link(self.first.landing / "users", short.landing / "users")
        before = f"date={self.last_day - timedelta(SHORT_HISTORY_DAYS)}"
        for folder in (self.first.landing / "interactions").glob("date=*"):
            if folder.name > before:
                _link(folder, short.landing / "interactions" / folder.name)
        return short


def _link(source: Path, target: Path) -> None:
    """The same files under another folder; deliveries replace files and never write into them."""
    shutil.copytree(source, target, copy_function=os.link)


def _more_days(homes: Mapping[int, Home], extra: Sequence[tuple[date, Path]]) -> dict[str, Timed]:
    """One more day: in a process that starts, the same without its start, and in one that is warm; medians of several.

    Args:
        homes: by the days of their history; each day comes to all of them, one after the other.
        extra: days and their files.
    """
    started: dict[int, list[Timed]] = {history: [] for history in homes}
    found = {}
    for day, file in extra[:STARTED_DAYS]:
        for history, home in homes.items():
            home("land", "interactions", file, "--date", str(day))
            say(f"{home.engine}: run, one more day after {history}")
            started[history].append(home("run"))
    for history, home in homes.items():
        say(f"{home.engine}: more days after {history} in one process that stays")
        days = (str(part) for one in extra[STARTED_DAYS:] for part in one)
        warm = timed([sys.executable, "-m", "benchmarks.warm_days", *days], home.environment)
        seconds = [float(line.removeprefix(RESULT)) for _, line in warm.lines if line.startswith(RESULT)]
        run = sorted(started[history], key=lambda run: run.seconds)[STARTED_DAYS // 2]
        without = median(without_start(run) for run in started[history])
        name = f"one more day after {history}"
        found[f"{name}, with start"] = run
        found[f"{name}, without start"] = replace(run, seconds=without)
        found[f"{name}, warm"] = replace(warm, seconds=median(seconds))
    return found


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
            benchmark.landed()
            benchmark.shared_tables()
            if options.all_tables:
                benchmark.all_tables()
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
        for who, seconds in found.items():
            used, peak = report["processor_seconds"][step][who], report["peak_gib"][step][who]
            say(f"{step:<40} {who:<10}{seconds:8.1f} s{used:8.1f} of a processor{peak:7.2f} GiB")
    for name, value in report["ratios"].items():
        say(f"{name:<60}{value:8.2f}")
    for sentence in report["goals"]:
        say(f"goal: {sentence}")
    if report["stood_still_seconds"]:
        say(f"the machine or this process was paused for {report['stood_still_seconds']} s: no figure above is good")
    if not report["differences"]:
        say("every table that was compared is the same")
    for sentence in report["differences"]:
        say(f"DIFFERENT {sentence}")


def _engines(text: str) -> tuple[str, ...]:
    engines = tuple(text.split(","))
    if not set(engines) <= set(ENGINES):
        raise argparse.ArgumentTypeError(f"{text!r} names another engine than {' and '.join(ENGINES)}")
    return engines


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
    parser.add_argument("--engines", type=_engines, default=ENGINES, help="default sail,spark; the first one lands")
    parser.add_argument("--heap", type=_heap, default="4g", help="each engine's and DuckDB's memory")
    parser.add_argument("--all-tables", action="store_true", help="also every table, which DuckDB does not make")
    parser.add_argument("--more-day", action="store_true", help="also what one more day costs after all and after 30")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("benchmark.json"), metavar="FILE.json", help="default benchmark.json"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
