"""The realistic kind: who is there on which day, and how active."""

from datetime import timedelta
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lakehouse_assets.sample_data.drawing import (
    STREAM_DAYS,
    STREAM_LIVES,
    Integers,
    draw,
    exponential,
    generator,
    log_normal,
    quantiles,
)
from lakehouse_assets.sample_data.plan import Plan
from lakehouse_assets.sample_data.users import JOIN_HISTORY_DAYS

_EXISTING_USERS_PERCENT = 20  # joined before the first day
_BRIEF_VISITORS_PERCENT = 35  # of new users are gone within four days
_MEAN_STAY_DAYS = 300  # of the others
_RETURNING_PERCENT = 15  # of those who left come back for a second stay
_JOIN_DAY_BOOST = 8  # a user is that much more active on the day of joining
_WEEKDAY_PERCENT = (104, 106, 106, 104, 98, 72, 70)  # Monday first
MAX_UPDATE_LAG_DAYS = 90


class Lives(NamedTuple):
    """One entry per user, in order of joining. Days are counted from the first day of events; ends are exclusive."""

    join: Integers
    leave: Integers
    come_back: Integers
    leave_again: Integers
    weight: Integers  # how active, relative
    update_lag: Integers  # days from a release to the user's update

    def active_on(self, day: int) -> npt.NDArray[np.bool_]:
        """Which users are there on a day."""
        first_stay = (self.join <= day) & (day < self.leave)
        return first_stay | ((self.come_back <= day) & (day < self.leave_again))


def lives_of(plan: Plan) -> Lives:
    """When each user joins, leaves and comes back, and how active each is."""
    random = generator(plan.seed, STREAM_LIVES)
    existing = max(1, plan.users * _EXISTING_USERS_PERCENT // 100)
    joins_per_day = [
        (plan.days + day) * _WEEKDAY_PERCENT[(plan.start + timedelta(day)).weekday()] for day in range(plan.days)
    ]
    new_days = np.array(list(accumulate(joins_per_day)), dtype=np.int64)
    before = -1 - draw(random, JOIN_HISTORY_DAYS - 1, existing)
    after = np.searchsorted(new_days, random.integers(0, new_days[-1], size=plan.users - existing), side="right")
    join = np.sort(np.concatenate([before, after.astype(np.int64)]))
    stay = quantiles(1 << 12, exponential(_MEAN_STAY_DAYS), 5, 10_000)
    length = stay[draw(random, stay.size, plan.users)]
    brief = (draw(random, 100, plan.users) < _BRIEF_VISITORS_PERCENT) & (join >= 0)
    length[brief] = 1 + draw(random, 4, int(brief.sum()))
    leave = np.maximum(join, 0) + length
    come_back = leave + 14 + draw(random, 120, plan.users)
    returns = draw(random, 100, plan.users) < _RETURNING_PERCENT
    leave_again = np.where(returns, come_back + stay[draw(random, stay.size, plan.users)], come_back)
    weights = quantiles(1 << 14, log_normal(1_000, 1.05), 1, 1_000_000)
    lags = quantiles(1 << 10, exponential(9), 0, MAX_UPDATE_LAG_DAYS)
    return Lives(
        join,
        leave,
        come_back,
        leave_again,
        weights[draw(random, weights.size, plan.users)],
        lags[draw(random, lags.size, plan.users)],
    )


def rows_per_day(plan: Plan, lives: Lives, rows: int) -> list[int]:
    """Share out `rows` by who is there, weekday and a little noise; whole numbers all the way, so exact."""
    change = np.zeros(plan.days + 1, dtype=np.int64)
    for day, sign in ((lives.join, 1), (lives.leave, -1), (lives.come_back, 1), (lives.leave_again, -1)):
        np.add.at(change, np.clip(day, 0, plan.days), sign * lives.weight)
    noise = generator(plan.seed, STREAM_DAYS).integers(93, 108, size=plan.days)
    weekdays = [_WEEKDAY_PERCENT[(plan.start + timedelta(day)).weekday()] for day in range(plan.days)]
    volumes = [
        max(1, int(present)) * weekday * int(percent)
        for present, weekday, percent in zip(np.cumsum(change)[:-1], weekdays, noise, strict=True)
    ]
    ends = [rows * part // sum(volumes) for part in accumulate(volumes)]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def pick_users(random: np.random.Generator, lives: Lives, day: int, count: int) -> Integers:
    """Users of `count` sessions: present on `day`, in proportion to how active they are."""
    present = np.flatnonzero(lives.active_on(day))
    if present.size == 0:
        present = np.arange(lives.join.size)
    weight = lives.weight[present]
    weight[lives.join[present] == day] *= _JOIN_DAY_BOOST
    edges = np.cumsum(weight)
    draws = random.integers(0, edges[-1], size=count)
    return present[np.searchsorted(edges, draws, side="right")]
