"""What a run says of the rows that it looked at: how many are rejected, why, and how many are copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakehouse_assets.planning.planner import Work
    from lakehouse_assets.storage.catalog import Catalog


def rejected(work: Sequence[Work], catalog: Catalog) -> list[str]:
    """How many rows of the run were rejected, and why."""
    return [
        *_rejected_interactions(work, catalog),
        *_rejected_users(work, catalog),
        *_duplicates(work, catalog),
        *without_values(work, catalog),
    ]


def without_values(work: Sequence[Work], catalog: Catalog) -> list[str]:
    """Columns that the settings name and no computed row has: the name may be misspelt."""
    from lakehouse_assets.assets.users_as_of import DELIVERED_ATTRIBUTES, attributes

    settings = catalog.settings
    of_users = attributes(settings.segments, settings.extra_columns)[len(DELIVERED_ATTRIBUTES) :]
    named = [("silver.user_changes", "valid_from", "segments", name) for name in of_users]
    named += [("silver.interaction_extras", "event_date", "extra_columns", name) for name in settings.extra_columns]
    told = []
    for table, day, setting, name in named:
        has = f"""CASE WHEN "{name}" IS NOT NULL THEN 'it' END"""
        within = f"WHERE {day} BETWEEN $first AND $last GROUP BY ALL"
        rows = _counted(work, catalog, (table,), f"SELECT {has}, count(*) FROM {table} {within}")  # noqa: S608
        if rows and "it" not in rows:
            told.append(f"{setting} names {name}, but no computed row of {table} has a value for it")
    return told


def _duplicates(work: Sequence[Work], catalog: Catalog) -> list[str]:
    """How many valid rows are duplicates of others."""
    from lakehouse_assets.calendar import some

    told = []
    for table, what, equal in (
        ("silver.interaction_counts", "interaction", "user, instant, action and page"),
        ("silver.user_counts", "user row", "user and landing date"),
    ):
        query = f"SELECT NULL, sum(duplicate_rows)::BIGINT FROM {table} WHERE date BETWEEN $first AND $last"  # noqa: S608
        if found := _counted(work, catalog, (table,), query).get(None):
            told.append(f"duplicates: {some(found, what)} with the same {equal} as another, not counted; see {table}")
    return told


def _rejected_interactions(work: Sequence[Work], catalog: Catalog) -> list[str]:
    rows = _counted(
        work,
        catalog,
        ("silver.interaction_routing",),
        "SELECT reason, sum(delivered_rows)::BIGINT FROM silver.interaction_routing "
        "WHERE landing_date BETWEEN $first AND $last GROUP BY reason ORDER BY 2 DESC",
    )
    total, reasons = sum(rows.values()), {reason: count for reason, count in rows.items() if reason}
    if not reasons:
        return []
    hint = []
    if reasons.get("late_event", 0) * 10 > total:
        hint.append(
            f"  late_event: more than LAKEHOUSE_LATE_DAYS ({catalog.settings.late_days}) before the landing date; "
            "`lakehouse land` without --date lands each row under its own date"
        )
    if reasons.get("future_event", 0) * 100 > total:
        zones = " and in ".join(dict.fromkeys(("UTC", catalog.settings.reporting_timezone)))
        hint.append(
            f"  future_event: after the landing date in {zones}; `lakehouse land` without --date lands each row under "
            "its own date"
        )
    return [_rejected_of("rows", total, reasons, "silver.rejected_interactions"), *hint]


def _rejected_users(work: Sequence[Work], catalog: Catalog) -> list[str]:
    rejected, delivered = "silver.rejected_users", "bronze.users"
    within = "WHERE landing_date BETWEEN $first AND $last"
    rows = _counted(
        work,
        catalog,
        (rejected, delivered),
        f"SELECT reason, count(*) FROM {rejected} {within} GROUP BY reason "  # noqa: S608
        f"UNION ALL SELECT NULL, count(*) FROM {delivered} {within} ORDER BY 2 DESC, 1",
    )
    total, reasons = rows.get(None, 0), {reason: count for reason, count in rows.items() if reason}
    if not reasons:
        return []
    hint = []
    if "bad_join_date" in reasons:
        hint = ["  bad_join_date: write join_date as YYYY-MM-DD, with a time or without, or leave it empty"]
    return [_rejected_of("users' rows", total, reasons, rejected), *hint]


def _rejected_of(what: str, total: int, reasons: Mapping[str, int], table: str) -> str:
    named = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    return f"rejected: {sum(reasons.values()):,} of {total:,} {what} ({named}); see {table}"


def _counted(work: Sequence[Work], catalog: Catalog, tables: Sequence[str], query: str) -> dict[str | None, int]:
    """Counts of a query over the days ($first … $last) that the first table was computed for."""
    from lakehouse_assets.storage.query import connect

    looked_at = [one for one in work if tables[0] in one.tables]
    if not looked_at:
        return {}
    days = {"first": min(one.first for one in looked_at), "last": max(one.last for one in looked_at)}
    return dict(connect(catalog, tables).execute(query, days).fetchall())
