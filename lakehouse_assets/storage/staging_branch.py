"""Branches of a table that a run stages rows on: their names say when the staging began."""

from __future__ import annotations

import re
import time
import uuid
from datetime import UTC, datetime

_NAME = re.compile(r"stage_(\d+)_[0-9a-f]{32}")


def new_branch() -> str:
    """A name that no branch has, of a staging that begins now."""
    return f"stage_{int(time.time())}_{uuid.uuid4().hex}"


def staging_began(branch: str) -> datetime | None:
    """When the staging on a branch began; None for a branch that is none."""
    found = _NAME.fullmatch(branch)
    return datetime.fromtimestamp(int(found[1]), tz=UTC) if found else None
