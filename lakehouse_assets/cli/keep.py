"""Commands that keep a lakehouse in order: maintain, cleanup, forget."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakehouse_assets.cli.compute import draw, first_look, start_early, up_to_date
from lakehouse_assets.cli.options import as_json, examples, quiet
from lakehouse_assets.cli.output import UsageError, answer, say, say_next

if TYPE_CHECKING:
    from lakehouse_assets.settings import Settings


@click.command("maintain", epilog=examples("maintain", "maintain --repair"))
@click.option(
    "--repair", is_flag=True, help="Only look for missing and damaged files, and take them out of their tables."
)
@click.option("--yes", is_flag=True, help="With --repair: also if more than single files would be taken out.")
@quiet
@click.pass_obj
def maintain(settings: Settings, repair: bool, yes: bool) -> None:
    """Compact files, expire snapshots, remove what killed runs left."""
    from lakehouse_assets.lakehouse import Lakehouse

    if repair:
        _repair(settings, carry_out=yes)
        return
    if yes:
        raise UsageError("--yes needs --repair")
    maintenance = Lakehouse(settings).maintenance
    tables = maintenance.tables()
    if not tables:
        raise UsageError("no tables yet; `lakehouse run` computes them")
    began = time.monotonic()
    files = size = 0
    for name in tables:
        freed = maintenance.maintain(name)
        files, size = files + freed.files, size + freed.bytes
        gave_way = f"; {freed.gave_way} ranges left for next time, as a run published them" if freed.gave_way else ""
        say(
            f"{name:<32}{freed.files:>6,} files {freed.bytes / 1e6:>9.1f} MB freed, {freed.snapshots:,} snapshots "
            f"expired, {freed.branches} branches removed, {freed.compacted:,} small files compacted{gave_way}"
        )
    say(f"done: {files:,} files, {size / 1e6:,.1f} MB freed, {time.monotonic() - began:.1f} s")


def _repair(settings: Settings, *, carry_out: bool) -> None:
    from lakehouse_assets.calendar import in_words
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.orchestration.instance import terminal_instance
    from lakehouse_assets.orchestration.runs import living_runs
    from lakehouse_assets.storage.repair import why_to_ask
    from lakehouse_assets.storage.trouble import check_writable

    with terminal_instance(settings) as instance:
        busy = living_runs(instance)
    if busy:
        raise UsageError(
            f"run {busy[0].run_id} is still active; stop `lakehouse dev`, wait until nothing runs, then repair"
        )
    check_writable(settings)
    repair = Lakehouse(settings).repair
    found = list(repair.find())
    if not found:
        say("no damage found: every file of every table can be read")
        return
    for damage in found:
        say(str(damage))
    plan = repair.plan(found)
    why = why_to_ask(plan)
    will = "would" if why and not carry_out else "will"
    for mending in plan:
        days = ", ".join(in_words(mending.days))
        say(f"{mending.table} {will} be {mending.state}{f'; days to compute again: {days}' if days else ''}")
    if why and not carry_out:
        raise UsageError(
            f"nothing is changed yet: {why}. Is every disk mounted, and every file copied? If they are lost, "
            "`lakehouse maintain --repair --yes` does it"
        )
    for mending in plan:
        mended = repair.mend(mending)
        days = ", ".join(in_words(mended.days)) or "none"
        say(f"{mended.table} is {mended.state} now; days to compute again: {days}")
        if mended.lost:
            lost = ", ".join(in_words(mended.lost))
            say(f"  lost for good, because cleanup dropped their inputs: {lost}")
    say_next("run", why=" computes these days, and whatever an earlier version lacks")


@click.command(
    "cleanup",
    epilog=examples(
        "cleanup --retention-days 90 --dry-run", "cleanup --retention-days 90 --landing", "cleanup --empty-end"
    ),
)
@click.option("--retention-days", type=int, metavar="N", help="Days to keep before the newest.")
@click.option("--empty-end", is_flag=True, help="Remove computed days after the last landing date.")
@click.option("--landing", is_flag=True, help="Also delete the landed files of the dropped days.")
@click.option("--dry-run", is_flag=True, help="Only show what would be dropped.")
@quiet
@click.pass_obj
def cleanup(settings: Settings, retention_days: int | None, empty_end: bool, landing: bool, dry_run: bool) -> None:
    """Drop old days, or days after the last landed file."""
    from lakehouse_assets.lakehouse import Lakehouse

    if empty_end == (retention_days is not None):
        raise click.UsageError("use either --retention-days N or --empty-end")
    if retention_days is None:
        _take_back(settings, dry_run=dry_run)
        return
    if retention_days < 1:
        raise UsageError(f"--retention-days {retention_days}: keep at least one day")
    lakehouse = Lakehouse(settings)
    maintenance = lakehouse.maintenance
    plan = maintenance.plan_cleanup(retention_days)
    if not plan:
        say(f"nothing to drop: no table has removable days older than {retention_days} days")
    elif not dry_run:
        start_early(settings)
    verb = "would be dropped" if dry_run else "dropped"
    for dropping in plan:
        if not dry_run:
            maintenance.drop(dropping)
        more = dropping.kept_days > retention_days
        why = f" (keeps {dropping.kept_days} days: other tables look back on them)" if more else ""
        lost = f"{dropping.days:,} days before {dropping.first_kept}, {dropping.rows:,} rows"
        say(f"{dropping.table}: {lost}, {verb}{why}")
    for dataset, first_kept in maintenance.landed_before(plan).items():
        if landing:
            files, size = lakehouse.zone.remove_before(dataset, first_kept, dry_run=dry_run)
            say(f"landed {dataset} before {first_kept}: {files:,} files, {size / 1e6:,.1f} MB, {verb}")
        else:
            say(f"landed {dataset} before {first_kept}: files stay, but are not computed again; --landing deletes them")
    if plan and not dry_run:
        say_next("maintain", why=f" frees the space {settings.snapshot_days} days from now")


@click.command("forget", epilog=examples("forget u1 u2", "forget --file ids.txt --yes --recompute"))
@click.argument("users", nargs=-1, metavar="USER...")
@click.option("--file", type=click.Path(path_type=Path), metavar="FILE", help="A text file with one user_id a line.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--recompute", is_flag=True, help="Also recompute aggregates without them; by default these stay as they are."
)
@quiet
@as_json
@click.pass_obj
def forget(
    settings: Settings, users: Sequence[str], file: Path | None, yes: bool, recompute: bool, as_json: bool
) -> None:
    """Remove every row of the given users from the lakehouse."""
    from lakehouse_assets.calendar import some
    from lakehouse_assets.people import BLANKS, People
    from lakehouse_assets.storage.catalog import Catalog

    given = list(users)
    if file:
        try:
            given += file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} can't be read ({error}); name a text file with a user_id a line") from None
    people = People({one.strip(BLANKS) for one in given} - {""})
    if not people.ids:
        raise UsageError("no user_id is given; name users, or a file with --file")
    what = f"every row of {some(len(people.ids), 'user')} in {settings.home_path}"
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this deletes {what} for good; add --yes")
        if input(f"This deletes {what} for good. Type yes: ").strip().lower() != "yes":
            raise UsageError("nothing was deleted")
    if not Catalog(settings).names() and not Path(settings.landing_uri).exists() and "://" not in settings.landing_uri:
        raise UsageError(f"there is no lakehouse in {settings.home_path} yet")
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.orchestration.forget import RECORD
    from lakehouse_assets.orchestration.forget import forget as take_out

    began = time.monotonic()
    done = take_out(Lakehouse(settings), people, say, recompute=recompute)
    if as_json:
        answer(asdict(done))
    found = sum(done.rows.values())
    say(
        f"done in {time.monotonic() - began:.1f} s: {some(done.landed_rows, 'row')} out of "
        f"{some(done.landed_files, 'landed file')}, {some(found, 'row')} out of {some(len(done.rows), 'table')}; "
        f"{some(done.stored_files, 'stored file')} deleted, {some(done.records, 'record')} of Dagster's changed; "
        f"aggregates {done.aggregates}. On record, without ids, in {settings.home_path / RECORD}"
    )
    if done.mentions:
        say(f"  {some(done.mentions, 'row')} of other users name one of them, for example as a page; these stay")
    if recompute:
        try:
            lakehouse, before = first_look(settings)
            up_to_date(lakehouse, before)
            draw(lakehouse)
        except Exception:
            for line in done.left:
                say(line)
            raise
    if done.left:
        raise UsageError("\n".join(done.left))


def _take_back(settings: Settings, *, dry_run: bool) -> None:
    from lakehouse_assets.calendar import in_words, some
    from lakehouse_assets.lakehouse import Lakehouse

    maintenance = Lakehouse(settings).maintenance
    days = maintenance.empty_end()
    if not days:
        say("nothing to remove: no day after the last landing date is computed")
        return
    told = ", ".join(in_words(days))
    if dry_run:
        say(f"{told}: {some(len(days), 'day')} without a file would be removed")
        return
    maintenance.take_back(days)
    say(f"{told}: {some(len(days), 'day')} without a file to be removed")
    say_next("run", why=" removes them from every table")
