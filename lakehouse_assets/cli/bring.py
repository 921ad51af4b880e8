"""Commands that bring data: generate, land, demo."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakehouse_assets.cli.compute import draw, first_look, up_to_date
from lakehouse_assets.cli.options import examples, quiet
from lakehouse_assets.cli.output import LOOK, UsageError, say, say_next
from lakehouse_assets.cli.summary import rejected

if TYPE_CHECKING:
    from lakehouse_assets.settings import Settings

_DEMO_DAYS = 90
_TOLD_BYTES = 100_000  # less than that is read before anybody has read how much it is


@click.command(
    "generate",
    epilog=examples("generate -o data/sample --rows 100000 --days 30", "generate -o data/skewed --uniform --skew 0.3"),
)
@click.option("--users", type=int, default=25_000, show_default=True, help="Users.")
@click.option("--days", type=int, default=365, show_default=True, help="Days.")
@click.option("--rows", type=int, default=1_000_000, show_default=True, help="Interactions.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same files.")
@click.option("--uniform", is_flag=True, help="Users, times and actions drawn uniformly.")
@click.option("--skew", type=float, help="Share of all rows that belong to one user, such as 0.3.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The folder to write to."
)
@quiet
@click.pass_obj
def generate(
    settings: Settings, users: int, days: int, rows: int, seed: int, uniform: bool, skew: float | None, output: Path
) -> None:
    """Make sample data, realistic or uniform."""
    from lakehouse_assets.sample_data.generate import generate as make

    try:
        made = make(
            output,
            users=users,
            days=days,
            rows=rows,
            seed=seed,
            uniform=uniform,
            skew=skew,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    say(f"{made.rows:,} interactions of {made.users:,} users in {output}")
    say_next(f"land interactions {made.interactions_path}", f"land users {made.users_path}")


@click.command(
    "land",
    epilog=examples(
        "land interactions export.csv",
        "land interactions export.csv --map user_id=uid --map timestamp=ts",
        "land interactions export.csv --try",
        "land users users.csv --date 2024-03-01",
    ),
)
@click.argument("dataset", type=click.Choice(["interactions", "users"]))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--date",
    "under",
    metavar="D",
    help="Deliver the file as it is under this landing date. Default: interactions are split by event date, users "
    "go under today's date in UTC.",
)
@click.option(
    "--map", "pairs", multiple=True, metavar="COLUMN=YOUR_NAME", help="What one of our columns is called in the file."
)
@click.option("--replace", is_flag=True, help="Allow fewer rows of a date than the earlier file of that name has.")
@click.option(
    "--try",
    "trial",
    is_flag=True,
    help="Only show what would become of each row, and settings that would have more accepted.",
)
@quiet
@click.pass_obj
def land(
    settings: Settings,
    dataset: str,
    files: Sequence[Path],
    under: str | None,
    pairs: Sequence[str],
    replace: bool,
    trial: bool,
) -> None:
    """Put files into the landing zone."""
    from lakehouse_assets.assets.datasets import DATASETS
    from lakehouse_assets.calendar import in_words, some, span_in_words
    from lakehouse_assets.landing.deliver import deliver, landed_name, split
    from lakehouse_assets.landing.files import parse_date
    from lakehouse_assets.landing.redivision import divide_again
    from lakehouse_assets.landing.zone import landing_zone

    zone = landing_zone(settings)
    setting = f"map_{dataset}"
    named = [(f"{setting} {ours}={theirs}", ours, theirs) for ours, theirs in getattr(settings, setting).items()]
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        named.append((f"--map {pair}", ours, theirs))
    extra = settings.extra_columns if dataset == "interactions" else settings.segments
    for given, ours, theirs in named:
        if ours not in (*DATASETS[dataset], *extra) or not theirs:
            columns = ", ".join(DATASETS[dataset])
            raise UsageError(f"{given}: write it as COLUMN=YOUR_NAME; COLUMN is one of {columns}")
    renames = {ours: theirs for _, ours, theirs in named}
    day = parse_date(under) if under else None
    as_they_are = bool(day) or dataset == "users"
    names = [landed_name(source.name) for source in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"two files would be landed as {twice}, so one would replace the other; rename one")
    if trial:
        _try(settings, dataset, files, renames, day)
        return
    if dataset == "interactions":  # then the files of a name are divided by the same days and can be compared
        divide_again(zone, settings, say)
    for source in files:
        began = time.monotonic()
        if as_they_are:
            date_of_it = day or datetime.now(tz=UTC).date()
            landed = deliver(zone, dataset, source, date_of_it, renames, today=settings.today(), replace=replace)
            why = "" if day else ", today in UTC; use --date D for another date"
            say(f"{source.name}: delivered as it is under {date_of_it}{why}")
        else:
            landed = split(
                zone,
                source,
                renames,
                input_zone=settings.input_zone,
                reporting_zone=settings.reporting_zone,
                formats=settings.timestamp_formats,
                progress=_byte_progress(source.name),
                today=settings.today(),
                replace=replace,
            )
            days = sorted(landed.rows)
            rows = sum(landed.rows.values())
            took = time.monotonic() - began
            span = span_in_words(days[0], days[-1])
            say(f"{source.name}: {some(rows, 'row')}, {some(len(days), 'day')}: {span} ({took:.1f} s)")
            if landed.unreadable_day:
                rows = landed.unreadable_day
                shown = f" (such as {landed.unread[0]!r})" if landed.unread else ""
                say(
                    f"  {some(rows, 'row')} with an unreadable timestamp{shown} landed under {days[-1]}, to be rejected"
                )
        if landed.replaced:
            say(f"  replaced the earlier file of that name on: {', '.join(in_words(landed.replaced))}")
            say("  if that was another export, rename this file and land it again: then both count")
        unused = [name for name in landed.extra if name not in extra]
        if unused:
            say(f"  columns kept in bronze only: {', '.join(unused)}")
    say_next("run")


def _try(settings: Settings, dataset: str, files: Sequence[Path], renames: Mapping[str, str], day: date | None) -> None:
    from lakehouse_assets.calendar import some
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.landing.trial import told, try_file

    engine = Lakehouse(settings).engine
    trials = []
    for source in files:
        trials.append(try_file(engine, settings, dataset, source, renames, day))
        print("\n".join(told(source.name, trials[-1])), flush=True)
    refused = [source.name for source, trial in zip(files, trials, strict=True) if trial.refusal]
    rejected = sum(trial.rows - trial.accepted for trial in trials if not trial.refusal)
    if refused or rejected:
        named = f"{', '.join(refused)} would be refused" if refused else ""
        rows = (
            f"{some(rejected, 'row')} of {sum(trial.rows for trial in trials):,} would be rejected" if rejected else ""
        )
        raise UsageError("; ".join(filter(None, (named, rows))))


def _byte_progress(name: str) -> Callable[[int, int], None]:
    began = last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < 2 or total - done < _TOLD_BYTES:
            return
        last = now
        left = (now - began) / max(done, 1) * (total - done)
        unit, size = ("MB", 1e6) if total >= 1e7 else ("kB", 1e3)
        say(f"  {name}: {done / size:,.0f} of {total / size:,.0f} {unit}, about {max(left, 1):.0f} s left")

    return progress


@click.command("demo", epilog=examples("demo"))
@quiet
@click.pass_obj
def demo(settings: Settings) -> None:
    """Make sample data, compute every table, draw the dashboard."""
    import tempfile

    from lakehouse_assets.landing.deliver import deliver, split
    from lakehouse_assets.landing.zone import landing_zone
    from lakehouse_assets.sample_data.generate import generate as make

    began = time.monotonic()
    zone = landing_zone(settings)
    if zone.dates("interactions"):
        say(f"{settings.landing_uri} has files already; the demo adds none and computes the stale days")
    else:
        with tempfile.TemporaryDirectory() as folder:
            # up to yesterday: what Dagster's pages show first, and no years of days without a file between it and today
            start = datetime.now(tz=settings.reporting_zone).date() - timedelta(days=_DEMO_DAYS)
            made = make(Path(folder), users=4000, days=_DEMO_DAYS, rows=60_000, seed=1, start=start)
            split(
                zone,
                made.interactions_path,
                {},
                input_zone=settings.input_zone,
                reporting_zone=settings.reporting_zone,
            )
            if made.late_path and made.late_date:
                deliver(zone, "interactions", made.late_path, made.late_date, {})
            deliver(zone, "users", made.users_path, zone.dates("interactions")[0], {})
        say(
            f"sample data: {made.rows:,} interactions over {_DEMO_DAYS} days, with late, duplicate and faulty rows "
            "among them"
        )
    lakehouse, before = first_look(settings)
    work = up_to_date(lakehouse, before)
    page = draw(lakehouse)
    for line in rejected(work, lakehouse.catalog):
        say(line)
    say(f"done in {time.monotonic() - began:.0f} s. Look at {page}")
    say_next("tables", LOOK, "dev")
