"""The tables by docs/metrics in plain Python: one day of a table from the days of its inputs, no Spark."""

import csv
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.settings import Settings, action_column

Row = dict[str, Any]
Read = Callable[[str, date, date], list[Row]]  # the rows of a table from a first to a last day


def compute(name: str, day: date, read: Read, zone: LandingZone, settings: Settings) -> list[Row]:
    """The rows of one day of a table; what it reads of other tables is what ``read`` gives."""
    layer, short = name.split(".")
    if layer == "bronze":
        return _delivered(zone, short, day)
    return _COMPUTED[name](day, read, settings)


def _delivered(zone: LandingZone, dataset: str, day: date) -> list[Row]:
    rows = []
    for file in zone.files(dataset, day):
        with file.path.open(newline="") as stream:
            for row in csv.DictReader(stream):
                delivered = {column: row[column] for column in DATASETS[dataset]}
                rows.append(delivered | {"landing_date": day, "source_file": file.path.name})
    return rows


def _classified(row: Row, settings: Settings) -> Row:
    """The row with its reason or its event date."""
    instant = _instant(row["timestamp"] or "", settings)
    if instant is None:
        return row | {"reason": "bad_timestamp"}
    event_date = instant.astimezone(settings.reporting_zone).date()
    duration, landed = int(row["duration_ms"]), row["landing_date"]
    reason = None
    if row["action_type"] not in settings.allowed_actions:
        reason = "unknown_action"
    elif duration < 0:
        reason = "negative_duration"
    elif duration > settings.max_duration_ms:
        reason = "duration_over_limit"
    elif min(event_date, instant.date()) > landed:
        reason = "future_event"
    elif event_date < landed - timedelta(days=settings.late_days):
        reason = "late_event"
    if reason:
        return row | {"reason": reason}
    typed = {"event_date": event_date, "instant": instant, "duration": duration, "page_id": row["page_id"] or None}
    return row | typed | {"reason": None}


def _instant(text: str, settings: Settings) -> datetime | None:
    """The instant in UTC; None for what is none, or a wall time that a clock change skips."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        return None
    instant = (given if given.tzinfo else given.replace(tzinfo=settings.input_zone)).astimezone(UTC)
    skipped = not given.tzinfo and instant.astimezone(settings.input_zone).replace(tzinfo=None) != given
    return None if skipped else instant


def _rejected(day: date, read: Read, settings: Settings) -> list[Row]:
    rows = [_classified(row, settings) for row in read("bronze.interactions", day, day)]
    return [row for row in rows if row["reason"]]


def _routing(day: date, read: Read, settings: Settings) -> list[Row]:
    counted: dict[tuple[date | None, str | None], int] = {}
    for row in read("bronze.interactions", day, day):
        routed = _classified(row, settings)
        key = routed.get("event_date"), routed["reason"]
        counted[key] = counted.get(key, 0) + 1
    return [
        {"landing_date": day, "event_date": event_date, "reason": reason, "delivered_rows": rows}
        for (event_date, reason), rows in counted.items()
    ]


def _sending_to(day: date, settings: Settings) -> tuple[date, date]:
    """The first and the last landing date that may have rows of a day."""
    return day - timedelta(days=1), day + timedelta(days=settings.late_days)


def _interactions(day: date, read: Read, settings: Settings) -> list[Row]:
    found = read("bronze.interactions", *_sending_to(day, settings))
    valid = [row for row in (_classified(row, settings) for row in found) if row.get("event_date") == day]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in valid:
        key = (row["user_id"], row["instant"], row["action_type"], row["page_id"])
        groups.setdefault(key, []).append(row)
    accepted = []
    for (user, instant, action, page), rows in groups.items():
        first = min(rows, key=lambda row: (row["landing_date"], row["duration"], row["app_version"]))
        accepted.append(
            {
                "event_date": day,
                "user_id": user,
                "timestamp": instant,
                "action_type": action,
                "page_id": page,
                "duration_ms": first["duration"],
                "app_version": first["app_version"],
                "landing_date": first["landing_date"],
                "duplicates": len(rows) - 1,
            }
        )
    return accepted


def _counts(day: date, read: Read, settings: Settings) -> list[Row]:
    accepted = read("silver.interactions", day, day)
    routing = read("silver.interaction_routing", *_sending_to(day, settings))
    own = [row for row in routing if row["landing_date"] == day and row["event_date"]]
    return [
        {
            "date": day,
            "delivered_rows": len(read("bronze.interactions", day, day)),
            "rejected_rows": len(read("silver.rejected_interactions", day, day)),
            "routed_rows": sum(row["delivered_rows"] for row in own),
            "arrived_rows": sum(row["delivered_rows"] for row in routing if row["event_date"] == day),
            "accepted_rows": len(accepted),
            "duplicate_rows": sum(row["duplicates"] for row in accepted),
        }
    ]


def _judged_user(row: Row) -> Row:
    """The row with its reason or the day the user joined."""
    if not row["user_id"].strip():
        return row | {"reason": "missing_user_id"}
    day, _, time_of_day = row["join_date"].partition(" ")
    try:
        joined = date.fromisoformat(day) if day else None
        time.fromisoformat(time_of_day or "00:00")
    except ValueError:
        return row | {"reason": "bad_join_date"}
    return row | {"reason": None, "join_date": joined}


def _rejected_users(day: date, read: Read, settings: Settings) -> list[Row]:
    return [row | {"reason": why} for row in read("bronze.users", day, day) if (why := _judged_user(row)["reason"])]


def _valid_users(day: date, read: Read) -> list[Row]:
    return [row for row in map(_judged_user, read("bronze.users", day, day)) if not row["reason"]]


def _user_counts(day: date, read: Read, settings: Settings) -> list[Row]:
    valid = _valid_users(day, read)
    kept = len({row["user_id"] for row in valid})
    return [
        {
            "date": day,
            "delivered_rows": len(read("bronze.users", day, day)),
            "rejected_rows": len(read("silver.rejected_users", day, day)),
            "duplicate_rows": len(valid) - kept,
            "kept_rows": kept,
        }
    ]


def _user_changes(day: date, read: Read, settings: Settings) -> list[Row]:
    columns = ("country", "device_type", "subscription_type")
    known = {
        row["user_id"]: row
        for row in sorted(read("silver.user_changes", date.min, day - timedelta(days=1)), key=_since)
    }
    versions: dict[str, Row] = {}
    for row in sorted(_valid_users(day, read), key=lambda row: [row[column] for column in columns], reverse=True):
        before = versions.get(row["user_id"])  # the last of equal days counts, which is the smallest by content
        if before is None or (row["join_date"] or date.min) >= (before["join_date"] or date.min):
            versions[row["user_id"]] = {name: row[name] for name in ("user_id", "join_date", *columns)}
    return [
        version | {"valid_from": day}
        for user, version in versions.items()
        if user not in known or any(known[user][name] != value for name, value in version.items())
    ]


def _since(version: Row) -> date:
    return version["valid_from"]


def _users(day: date, read: Read, settings: Settings) -> list[Row]:
    versions = read("silver.user_changes", day, date.max)
    found = []
    for row in versions:
        if row["valid_from"] == day:
            later = [_since(other) for other in versions if other["user_id"] == row["user_id"] and _since(other) > day]
            found.append(row | {"valid_to": min(later, default=None), "is_current": not later})
    return found


def _user_days(day: date, read: Read, settings: Settings) -> list[Row]:
    rows = sorted(read("silver.interactions", day, day), key=lambda row: row["user_id"])
    found = []
    for user, group in groupby(rows, key=lambda row: row["user_id"]):
        own = list(group)
        instants = [row["timestamp"] for row in own]
        by_action = {
            action_column(action): sum(row["action_type"] == action for row in own)
            for action in settings.allowed_actions
        }
        found.append(
            {"event_date": day, "user_id": user, "actions": len(own), **by_action}
            | {"duration_ms": sum(row["duration_ms"] for row in own)}
            | {"first_timestamp": min(instants), "last_timestamp": max(instants)}
        )
    return found


def _mean(values: Sequence[int], of: int) -> float | None:
    return sum(values) / of if of else None


def _daily_metrics(day: date, read: Read, settings: Settings) -> list[Row]:
    window = read("silver.user_days", day - timedelta(days=29), day)
    today = [row for row in window if row["event_date"] == day]
    actions = sum(row["actions"] for row in today)

    def distinct(days: int) -> int:
        return len({row["user_id"] for row in window if row["event_date"] > day - timedelta(days=days)})

    return [
        {
            "date": day,
            "daily_active_users": len(today),
            "total_actions": actions,
            "avg_duration_ms": _mean([row["duration_ms"] for row in today], actions),
            "weekly_active_users": distinct(7),
            "monthly_active_users_28d": distinct(28),
            "monthly_active_users_30d": distinct(30),
            "stickiness": len(today) / distinct(30) if distinct(30) else None,
        }
    ]


def _monthly_metrics(day: date, read: Read, settings: Settings) -> list[Row]:
    month = read("silver.user_days", day.replace(day=1), day)
    actions = sum(row["actions"] for row in month)
    return [
        {
            "date": day,
            "month_date": day.replace(day=1),
            "monthly_active_users": len({row["user_id"] for row in month}),
            "total_monthly_actions": actions,
            "avg_duration_ms": _mean([row["duration_ms"] for row in month], actions),
        }
    ]


def _session_metrics(day: date, read: Read, settings: Settings) -> list[Row]:
    rows = sorted(read("silver.interactions", day, day), key=lambda row: (row["user_id"], row["timestamp"]))
    found = []
    for user, group in groupby(rows, key=lambda row: row["user_id"]):
        open_sessions: list[list[Row]] = []
        for row in group:
            gap = timedelta(seconds=settings.session_gap_seconds)
            if open_sessions and row["timestamp"] - open_sessions[-1][-1]["timestamp"] < gap:
                open_sessions[-1].append(row)
            else:
                open_sessions.append([row])
        for number, session in enumerate(open_sessions):
            start, end = session[0]["timestamp"], session[-1]["timestamp"]
            found.append(
                {
                    "session_id": f"{user}_{day:%Y%m%d}_{number}",
                    "user_id": user,
                    "session_date": day,
                    "session_start_time": start,
                    "session_end_time": end,
                    "actions_per_session": len(session),
                    "session_duration_ms": sum(row["duration_ms"] for row in session),
                    "session_span_ms": (end - start) // timedelta(milliseconds=1),
                    "first_action_type": min(row["action_type"] for row in session if row["timestamp"] == start),
                    "last_action_type": max(row["action_type"] for row in session if row["timestamp"] == end),
                }
            )
    return found


def _daily_session_metrics(day: date, read: Read, settings: Settings) -> list[Row]:
    rows = read("gold.session_metrics", day, day)
    spans = sorted(row["session_span_ms"] for row in rows)
    actions = [row["actions_per_session"] for row in rows]

    def percentile(percent: int) -> int | None:
        return spans[-(-percent * len(spans) // 100) - 1] if spans else None

    return [
        {
            "date": day,
            "sessions": len(rows),
            "avg_actions_per_session": _mean(actions, len(rows)),
            "avg_session_duration_ms": _mean([row["session_duration_ms"] for row in rows], len(rows)),
            "avg_session_span_ms": _mean(spans, len(rows)),
            "p50_session_span_ms": percentile(50),
            "p95_session_span_ms": percentile(95),
            "single_action_rate": _mean([count == 1 for count in actions], len(rows)),
        }
    ]


_COMPUTED: dict[str, Callable[[date, Read, Settings], list[Row]]] = {
    "silver.rejected_interactions": _rejected,
    "silver.interaction_routing": _routing,
    "silver.interactions": _interactions,
    "silver.interaction_counts": _counts,
    "silver.rejected_users": _rejected_users,
    "silver.user_counts": _user_counts,
    "silver.user_changes": _user_changes,
    "silver.users": _users,
    "silver.user_days": _user_days,
    "gold.daily_metrics": _daily_metrics,
    "gold.monthly_metrics": _monthly_metrics,
    "gold.session_metrics": _session_metrics,
    "gold.daily_session_metrics": _daily_session_metrics,
}
