"""Profiles of tables as HTML pages, kept by date, and what has drifted between two dates.

A profile describes a sample of the table's newest days. The sample stays beside the page, as Parquet, so that a later
profile can be compared with it. The library that draws the pages is an extra: it brings 0.4 GB.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lakehouse_assets.assets.table import Table
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.storage.catalog import Catalog
from lakehouse_assets.storage.query import connect

SAMPLE_ROWS = 20_000  # 6 s and 2 MB a page; shares are then right to about one percent
DAYS = 28  # four whole weeks, so that weekdays do not look like drift
PROFILED = ("silver.interactions", "silver.users")  # every week, by themselves
NOT_INSTALLED = "profiles need the package fg-data-profiling, 0.4 GB; install it with `make profiles`"
_SEED = 1


class ProfileError(LakehouseError):
    """A profile that can't be made; the message says why and what to do."""


@dataclass(frozen=True)
class Profile:
    """A profile that was written.

    Attributes:
        page: the HTML page.
        rows: rows in the sample.
        of_rows: rows it was drawn from.
        first: first day of these rows.
        last: last day of them; the profile goes by it.
        drift: the page that compares it with an earlier one, if there is an earlier one.
        against: the day of that earlier one.
    """

    page: Path
    rows: int
    of_rows: int
    first: date
    last: date
    drift: Path | None
    against: date | None


def write_profile(
    catalog: Catalog, table: Table, folder: Path, rows: int = SAMPLE_ROWS, against: date | None = None
) -> Profile:
    """Profile a sample of a table's newest days, and compare it with an earlier profile.

    Args:
        catalog: where the table is.
        table: the declaration.
        folder: profiles of all tables; this one goes to ``<table>/<last day>.html``.
        rows: rows in the sample, all if there are fewer.
        against: the day of the earlier profile; the newest one if left out.

    Raises:
        ProfileError: the extra is not installed, the table has no rows, or there is no such earlier profile.
    """
    _require_the_extra()
    if table.name not in catalog.names():
        raise ProfileError(f"{table.name} is not computed yet; run `lakehouse run` first")
    connection = connect(catalog, [table.name])
    day = table.partition_column
    # users are rows that hold until another one ends them; all else happened on its day
    condition = f"{day} > (SELECT max({day}) FROM {table.name}) - {DAYS}"  # noqa: S608  our own names
    recent = f"{table.name} WHERE {'is_current' if 'is_current' in table.columns else condition}"
    first, last, of_rows = connection.execute(f"SELECT min({day}), max({day}), count(*) FROM {recent}").fetchall()[0]  # noqa: S608
    if not of_rows:
        raise ProfileError(f"{table.name} has no rows to profile")
    mine = folder / table.name
    earlier = {date.fromisoformat(p.stem): p for p in mine.glob("*.parquet") if date.fromisoformat(p.stem) < last}
    if against and against not in earlier:
        raise ProfileError(
            f"{table.name} has no profile of {against}; there are {', '.join(map(str, sorted(earlier))) or 'none yet'}"
        )
    mine.mkdir(parents=True, exist_ok=True)
    sample = connection.sql(
        f"SELECT * FROM (SELECT * FROM {recent}) USING SAMPLE reservoir({rows} ROWS) REPEATABLE ({_SEED})"  # noqa: S608
    )
    pq.write_table(sample.to_arrow_table(), mine / f"{last}.parquet")
    size = min(rows, of_rows)
    title = f"{table.name}, {first} … {last}: {size:,} of {of_rows:,} rows"
    report = _report(mine / f"{last}.parquet", title)
    page = mine / f"{last}.html"
    _write(report, page)
    against = against or max(earlier, default=None)
    drift = None
    if against:
        from data_profiling import compare

        drift = mine / f"{against}_{last}.html"
        _write(compare([_report(earlier[against], f"{against}"), _report(mine / f"{last}.parquet", f"{last}")]), drift)
    return Profile(page, size, of_rows, first, last, drift, against)


def extra_is_installed() -> bool:
    """Whether profiles can be made here."""
    return importlib.util.find_spec("data_profiling") is not None


def _require_the_extra() -> None:
    if not extra_is_installed():
        raise ProfileError(NOT_INSTALLED)
    os.environ["YDATA_PROFILING_NO_ANALYTICS"] = "1"  # else it tells its makers of every profile
    os.environ["TQDM_DISABLE"] = "1"  # its bars, which it draws whatever it is asked


def _report(sample: Path, title: str) -> Any:
    import pandas as pd
    from data_profiling import ProfileReport

    frame = pq.read_table(sample).to_pandas(date_as_object=False)
    for name, kind in frame.dtypes.items():
        if isinstance(kind, pd.DatetimeTZDtype):  # which it can't compare with other times
            frame[name] = frame[name].dt.tz_localize(None)
    # without rows as they are: a page that is passed on shows no user's row
    return ProfileReport(frame, title=title, minimal=True, progress_bar=False, samples=None, duplicates=None)


def _write(report: Any, page: Path) -> None:
    temporary = page.with_name(f".{page.name}.tmp.html")  # it insists on the ending
    report.to_file(temporary, silent=True)
    temporary.replace(page)
