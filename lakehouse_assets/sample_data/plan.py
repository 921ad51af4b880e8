"""What is asked for, and what was written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple

INTERACTION_COLUMNS = ("user_id", "timestamp", "action_type", "page_id", "duration_ms", "app_version")
USER_COLUMNS = ("user_id", "join_date", "country", "device_type", "subscription_type")
ACTIONS = ("page_view", "edit", "create", "delete", "share")
INTERACTIONS_FILE = "interactions.csv"
USERS_FILE = "users.csv"
LATE_FILE = "interactions_late.csv"
SECONDS_PER_DAY = 86_400
BLOCK_ROWS = 1 << 17  # rows drawn from one random stream and held at once; part of what a seed means
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Generated:
    """What was written, and what the cleaning must therefore find.

    Counts are rows (CSV records without the header). `rejected` and `duplicates` are those of the main file;
    `late` are those of the late file if it is landed on `late_date` with the default of three late days.
    """

    interactions_path: Path
    users_path: Path
    rows: int
    users: int
    user_rows: int
    repeated_users: int = 0  # ids with two rows in users.csv
    users_without_metadata: int = 0  # ids with no row in users.csv
    rejected: Mapping[str, int] = field(default_factory=dict)  # reason -> rows
    duplicates: Mapping[str, int] = field(default_factory=dict)  # exact, conflicting -> rows beyond the first
    quoted_page_rows: int = 0  # valid in spite of a separator, a quote or a line break inside page_id
    late_path: Path | None = None
    late_date: date | None = None  # the landing date to deliver `late_path` under
    late_rows: int = 0
    late: Mapping[str, int] = field(default_factory=dict)  # accepted, late_event, future_event -> rows


class Plan(NamedTuple):
    """The checked arguments of one call."""

    users: int
    days: int
    rows: int
    seed: int
    start: date
    skew: float
