"""Differences in steps of half: the distance between neighbouring halves at a value, its unit in the last place."""

import numpy as np

SMALLEST_STEP = 2.0**-24
OVERFLOW = 65536.0  # where the next half would be: from 65520 on, a value rounds to infinity


def step(wide):
    """The distance of neighbouring halves at each value."""
    _, exponent = np.frexp(np.abs(np.where(np.isfinite(wide), wide, 0.0)))
    return np.maximum(np.ldexp(1.0, exponent - 11), SMALLEST_STEP)


def in_range(values):
    """Values beyond half, infinities with them, at the place where rounding sees them."""
    return np.clip(values.astype(np.float64), -OVERFLOW, OVERFLOW)


def rounded(wide):
    with np.errstate(over="ignore"):
        return wide.astype(np.float16)


def same(got, want):
    """True at each element that is equal; NaN equals NaN."""
    equal = got == want
    return equal | ((got != got) & (want != want)) if got.dtype.kind == "f" else equal


def beyond(got, wide, noise):
    """How far, in steps, each half is from the unrounded truth beyond `noise`: rounding once gives 0.5 at most.

    NaN on one side alone is infinitely far.
    """
    with np.errstate(invalid="ignore"):
        far = np.maximum(np.abs(in_range(got) - in_range(wide)) - noise, 0.0) / step(in_range(wide))
    nan = np.isnan(got), np.isnan(wide)
    return np.where(nan[0] & nan[1], 0.0, np.where(nan[0] | nan[1], np.inf, far))
