"""Seeded test data: an app's interaction log and its users, as CSV files.

Two kinds. *Uniform* is the public challenge's data: every column drawn uniformly, rows in random order, nothing wrong
with them. *Realistic* is what a product's log looks like: sessions, a weekly rhythm, growth, churn, power users,
app versions that roll out, and about 2 % dirt of every reject reason of docs/metrics, each counted as it is planted.

The same arguments give the same bytes, on any machine and for any number of threads. Three habits keep it so: rows come
in blocks of a fixed size, each with its own random stream; draws are integers only, mapped through tables built with
plain Python arithmetic (numpy's vectorised `exp` and `log` differ in the last bit between processors); sorts are
stable. (numpy may change a stream in a new release; the pinned one does not move.)
Memory holds one block and the tables of users; it does not grow with the rows, but for 10 bytes per dirty row.
"""

from datetime import date
from pathlib import Path

from lakehouse_assets.sample_data.plan import Generated, Plan, Progress
from lakehouse_assets.sample_data.realistic import write_realistic
from lakehouse_assets.sample_data.uniform import write_uniform

MAX_USERS = 9_999_999  # an id is `u` and seven digits
DEFAULT_START = date(2023, 1, 1)
FIRST_START = date(1970, 1, 1)
LAST_DAY = date(9998, 12, 31)


def generate(
    output: Path,
    *,
    users: int,
    days: int,
    rows: int,
    seed: int,
    start: date = DEFAULT_START,
    uniform: bool = False,
    skew: float | None = None,
    progress: Progress | None = None,
) -> Generated:
    """Write interactions.csv, users.csv and, for the realistic kind, interactions_late.csv into `output`.

    Each file appears under its name only when all are complete. Times are UTC, whole seconds. The realistic kind
    stands in time order, uniform rows in none.

    Args:
        output: a folder, made if it is missing; files of these names in it are replaced.
        users: user ids are u0000001 to this number.
        days: calendar days of events, from `start` on.
        rows: rows of interactions.csv, dirt included; the late file has 0.1 % more besides.
        seed: same seed and arguments, same bytes.
        start: the first day of events.
        uniform: the public challenge's data in place of the realistic kind.
        skew: this share of all rows (about) belongs to user u0000001.
        progress: called with (rows done, rows in all) after each block.

    Raises:
        ValueError: an argument is out of range; the message names the option.
    """
    _check_arguments(output, users=users, days=days, rows=rows, seed=seed, start=start, skew=skew)
    output.mkdir(parents=True, exist_ok=True)
    report = progress or (lambda _done, _total: None)
    write = write_uniform if uniform else write_realistic
    return write(output, Plan(users, days, rows, seed, start, skew or 0.0), report)


def _check_arguments(
    output: Path, *, users: int, days: int, rows: int, seed: int, start: date, skew: float | None
) -> None:
    if not 1 <= users <= MAX_USERS:
        raise ValueError(f"--users must be from 1 to {MAX_USERS:,}, not {users:,}.")
    if days < 1:
        raise ValueError(f"--days must be at least 1, not {days:,}.")
    if rows < 1:
        raise ValueError(f"--rows must be at least 1, not {rows:,}.")
    if seed < 0:
        raise ValueError(f"--seed must be 0 or more, not {seed}.")
    if not FIRST_START <= start <= LAST_DAY:
        raise ValueError(f"--start must be from {FIRST_START} to {LAST_DAY}, not {start}.")
    if days > (LAST_DAY - start).days + 1:
        raise ValueError(f"--days must end by {LAST_DAY}, which {days:,} days from {start} do not.")
    if skew is not None and not 0 < skew <= 1:
        raise ValueError(f"--skew must be a share above 0 and up to 1, not {skew}.")
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output must be a folder, and {output} is a file.")
