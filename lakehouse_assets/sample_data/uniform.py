"""The uniform kind: the public challenge's data, every column drawn uniformly, rows in random order."""

from pathlib import Path

import numpy as np

from lakehouse_assets.sample_data.drawing import STREAM_ROWS, draw, generator
from lakehouse_assets.sample_data.plan import (
    ACTIONS,
    BLOCK_ROWS,
    INTERACTION_COLUMNS,
    INTERACTIONS_FILE,
    LATE_FILE,
    SECONDS_PER_DAY,
    USERS_FILE,
    Generated,
    Plan,
    Progress,
)
from lakehouse_assets.sample_data.records import (
    as_texts,
    blank_records,
    csv_bytes,
    day_texts,
    header_of,
    interaction_type,
    new_files,
    set_user,
    time_texts,
)
from lakehouse_assets.sample_data.users import write_users

_UNIFORM_PAGES = 100_000
_UNIFORM_DURATION_MS = (100, 300_000)


def write_uniform(output: Path, plan: Plan, report: Progress) -> Generated:
    """Write the two files of the uniform kind."""
    actions = as_texts(ACTIONS)
    pages = as_texts([f"p{n:06d}" for n in range(1, _UNIFORM_PAGES + 1)])
    low, high = _UNIFORM_DURATION_MS
    durations = np.arange(low, high + 1).astype("S6")
    versions = as_texts([f"{x}.{y}.{z}" for x in range(1, 6) for y in range(10) for z in range(10)])
    days = day_texts(plan.start, plan.days, " ")
    layout = interaction_type(page=pages.itemsize, duration=durations.itemsize)
    paths = (output / INTERACTIONS_FILE, output / USERS_FILE)
    with new_files(paths) as (interactions, users):
        interactions.write(header_of(INTERACTION_COLUMNS))
        for block, first in enumerate(range(0, plan.rows, BLOCK_ROWS)):
            count = min(BLOCK_ROWS, plan.rows - first)
            random = generator(plan.seed, STREAM_ROWS, block)
            ids = draw(random, plan.users, count) + 1
            if plan.skew:
                ids[draw(random, 1 << 30, count) < round(plan.skew * (1 << 30))] = 1
            records = blank_records(layout, count)
            set_user(records, ids)
            records["day"] = days[draw(random, plan.days, count)]
            records["time"] = time_texts()[draw(random, SECONDS_PER_DAY, count)]
            records["action"] = actions[draw(random, actions.size, count)]
            records["page"] = pages[draw(random, pages.size, count)]
            records["duration"] = durations[draw(random, durations.size, count)]
            records["version"] = versions[draw(random, versions.size, count)]
            interactions.write(csv_bytes(records))
            report(first + count, plan.rows)
        user_rows, repeated, _ = write_users(users, plan, None)
    (output / LATE_FILE).unlink(missing_ok=True)  # an earlier call's would not belong to this data
    return Generated(*paths, plan.rows, plan.users, user_rows, repeated)
