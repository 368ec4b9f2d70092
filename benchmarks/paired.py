"""Statistics of paired differences: Student's t without tables, Holm's correction, and the power of a design."""

from __future__ import annotations

import math
import statistics
from typing import Sequence

import numpy as np

LEVEL = 0.05  # of the tests, over all comparisons of a study


def t_cdf(t: float, freedom: int) -> float:
    """P(T <= t) of Student's t with whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    theta = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(theta), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    area = 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total
    return (1 + area) / 2


def t_quantile(probability: float, freedom: int) -> float:
    """The t with P(T <= t) = probability, of 0.5 to 1 (excluded), by bisection."""
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < probability else (low, middle)
    return high


def interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """The mean of differences and its confidence interval by Student's t: mean, low, high."""
    mean, n = statistics.mean(differences), len(differences)
    half = t_quantile((1 + level) / 2, n - 1) * statistics.stdev(differences) / math.sqrt(n)
    return mean, mean - half, mean + half


def p_value(differences: Sequence[float]) -> float:
    """Of the two-sided paired t-test that the mean difference is 0."""
    mean, deviation = statistics.mean(differences), statistics.stdev(differences)
    if not deviation:
        return 0.0 if mean else 1.0
    return 2 * t_cdf(-abs(mean) / deviation * math.sqrt(len(differences)), len(differences) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: if those up to `level` are taken, none is false with probability 1 - `level`."""
    largest, adjusted = 0.0, [1.0] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def power(effect: float, deviation: float, n: int, level: float = 0.05) -> float:
    """The chance that a two-sided paired t-test at `level` finds a true mean difference, of either sign.

    Parameters
    ----------
    effect, deviation : float
        Mean and standard deviation of the differences.
    n : int
        Number of pairs.
    """
    if not deviation:
        return float(effect != 0)
    freedom, shift = n - 1, effect / deviation * math.sqrt(n)
    critical = t_quantile(1 - level / 2, freedom)
    # Over the distribution of the estimated deviation in units of the true one, chi / sqrt(freedom).
    ratio = np.linspace(0, 12, 6001)[1:]
    logarithm = (freedom - 1) * np.log(ratio) - freedom * ratio**2 / 2
    weight = np.exp(logarithm - logarithm.max())
    beyond = [0.5 * math.erfc((critical * r - shift) / math.sqrt(2)) for r in ratio]
    below = [0.5 * math.erfc((critical * r + shift) / math.sqrt(2)) for r in ratio]
    return float((weight * (np.array(beyond) + below)).sum() / weight.sum())


def detectable(deviation: float, n: int, level: float = 0.05, chance: float = 0.8) -> float:
    """The mean difference that is found with this chance."""
    if not deviation:
        return 0.0
    low, high = 0.0, deviation
    while power(high, deviation, n, level) < chance:
        high *= 2
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, deviation, n, level) < chance else (low, middle)
    return high
