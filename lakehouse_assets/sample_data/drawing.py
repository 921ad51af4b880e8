"""Random integers, each from its own stream of a seed, and distributions as tables of equally likely values."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
STREAM_ROWS, STREAM_USERS, STREAM_LIVES, STREAM_DAYS, STREAM_DIRT, STREAM_LATE = range(6)


def generator(seed: int, *stream: int) -> np.random.Generator:
    """An independent generator for one named stream (and block) of a seed."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=stream)))


def draw(random: np.random.Generator, table_size: int, count: int) -> Integers:
    """Uniform positions of a table."""
    return random.integers(0, table_size, size=count, dtype=np.int64)


def quantiles(size: int, inverse: Callable[[float], float], low: int, high: int) -> Integers:
    """A distribution as a table of `size` equally likely whole numbers from `low` to `high`."""
    values = np.array([inverse((i + 0.5) / size) for i in range(size)])
    rounded: Integers = np.clip(np.rint(values), low, high).astype(np.int64)
    return rounded


def log_normal(median: float, sigma: float) -> Callable[[float], float]:
    """The quantiles of a log-normal distribution."""
    normal = NormalDist(math.log(median), sigma)
    return lambda q: math.exp(normal.inv_cdf(q))


def exponential(mean: float) -> Callable[[float], float]:
    """The quantiles of an exponential distribution."""
    return lambda q: -mean * math.log1p(-q)


def by_weight(size: int, weights: Sequence[float]) -> Integers:
    """A table of `size` positions in which each index of `weights` fills its share."""
    edges = list(accumulate(weights))
    ends = np.array([round(size * edge / edges[-1]) for edge in edges])
    return np.searchsorted(ends, np.arange(size), side="right").astype(np.int64)
