"""The columns of a version of a user."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse_assets.assets.columns import Column, day, text
from lakehouse_assets.assets.users_as_of import attributes


def version_columns(segments: Sequence[str], extra_columns: Sequence[str]) -> dict[str, Column]:
    """What a version of a user says, and since when."""
    return {
        "valid_from": day("Landing date of the users file that said so first."),
        "user_id": text("User, trimmed."),
        "join_date": day("Day the user joined.", nullable=True),
        **{
            name: text(f"`{name}` of the user; null where empty.", nullable=True)
            for name in attributes(segments, extra_columns)
        },
    }
