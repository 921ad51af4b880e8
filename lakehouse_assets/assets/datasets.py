"""Kinds of delivered files and their columns; in a module of its own, so that landing loads no engine."""

from collections.abc import Mapping

# The columns that a delivered file of each kind has; any order, further ones are kept as they are.
DATASETS: Mapping[str, tuple[str, ...]] = {
    "interactions": ("user_id", "timestamp", "action_type", "page_id", "duration_ms", "app_version"),
    "users": ("user_id", "join_date", "country", "device_type", "subscription_type"),
}
