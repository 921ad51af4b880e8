"""The realistic kind, put together: the log with its dirt, what comes late, and the users."""

from datetime import date, timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lakehouse_assets.sample_data.dirt import CONFLICTING, EXACT, REASONS, Dirt, dirt_counts, dirty_records, plant
from lakehouse_assets.sample_data.drawing import STREAM_LATE, draw, generator
from lakehouse_assets.sample_data.lives import Lives, lives_of, pick_users
from lakehouse_assets.sample_data.plan import (
    INTERACTION_COLUMNS,
    INTERACTIONS_FILE,
    LATE_FILE,
    SECONDS_PER_DAY,
    USERS_FILE,
    Generated,
    Plan,
    Progress,
)
from lakehouse_assets.sample_data.records import as_texts, csv_bytes, header_of, new_files
from lakehouse_assets.sample_data.sessions import (
    LATE_EVENT_LAG_DAYS,
    PAGES,
    START_CELLS,
    Rows,
    Tables,
    clean_rows,
    records_of,
)
from lakehouse_assets.sample_data.users import write_users


def _late_date(plan: Plan) -> date:
    """The landing date of the late file: the last day of events."""
    return plan.start + timedelta(plan.days - 1)


def _write_late(file: BinaryIO, plan: Plan, tables: Tables, lives: Lives) -> dict[str, int]:
    """Rows of other days than the one they are delivered on, of users whose phone was offline or whose clock is wrong.

    Their pages are nobody else's, so none is a duplicate. In data of one day there is no day to be late for.
    """
    count = max(12, min(plan.rows // 1_000, 10_000))
    longest_lag = min(3, plan.days - 1)
    counts = {"late_event": count // 4, "future_event": count // 6}
    counts["accepted"] = count - sum(counts.values()) if longest_lag else 0
    random = generator(plan.seed, STREAM_LATE)
    low, high = LATE_EVENT_LAG_DAYS
    lag = np.concatenate(
        [
            low + draw(random, high - low + 1, counts["late_event"]),
            np.full(counts["future_event"], -1, dtype=np.int64),
            1 + draw(random, max(1, longest_lag), counts["accepted"]),
        ]
    )
    time_of_day = tables.start_second[draw(random, START_CELLS, lag.size)]
    second = np.sort((plan.days - 1 - lag) * SECONDS_PER_DAY + time_of_day)
    rows = Rows(
        second,
        pick_users(random, lives, max(0, plan.days - 1 - high), lag.size),  # who had joined by then
        tables.action[draw(random, tables.action.size, lag.size)],
        np.arange(lag.size, dtype=np.int64),
        draw(random, tables.duration_texts.size, lag.size),
    )
    file.write(header_of(INTERACTION_COLUMNS))
    file.write(csv_bytes(records_of(rows, tables, lives, as_texts([f"p{PAGES + 1 + n:06d}" for n in range(lag.size)]))))
    return counts


def write_realistic(output: Path, plan: Plan, report: Progress) -> Generated:
    """Write the three files of the realistic kind."""
    tables, lives = Tables(plan), lives_of(plan)
    counts = dirt_counts(plan.rows)
    duplicates = {kind: counts[kind] for kind in (EXACT, CONFLICTING)}
    clean = plan.rows - sum(duplicates.values())
    dirt = plant(plan, counts, clean)
    paths = (output / INTERACTIONS_FILE, output / USERS_FILE, output / LATE_FILE)
    clean_done = written = quoted = 0
    with new_files(paths) as (interactions, users, late):
        interactions.write(header_of(INTERACTION_COLUMNS))
        for rows in clean_rows(plan, tables, lives, clean):
            begin, end = np.searchsorted(dirt.position, [clean_done, clean_done + rows.second.size])
            here = Dirt(dirt.position[begin:end] - clean_done, dirt.kind[begin:end], dirt.variant[begin:end])
            clean_done += rows.second.size
            records, quoted_here = dirty_records(rows, here, plan, tables, lives)
            interactions.write(csv_bytes(records))
            written += records.size
            quoted += quoted_here
            report(written, plan.rows)
        late_counts = _write_late(late, plan, tables, lives)
        user_rows, repeated, missing = write_users(users, plan, lives.join)
    return Generated(
        interactions_path=paths[0],
        users_path=paths[1],
        rows=written,
        users=plan.users,
        user_rows=user_rows,
        repeated_users=repeated,
        users_without_metadata=missing,
        rejected={reason: counts[reason] for reason in REASONS},
        duplicates=duplicates,
        quoted_page_rows=quoted,
        late_path=paths[2],
        late_date=_late_date(plan),
        late_rows=sum(late_counts.values()),
        late=late_counts,
    )
