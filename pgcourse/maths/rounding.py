"""Rounding errors: which differences between floating-point numbers mean nothing.

A sum of T numbers depends on their order, by about √T ε of its size, where ε is the spacing of floats at 1.
So numbers that are equal in exact arithmetic seldom are in a computer, and their spread is not exactly zero.
"""

from __future__ import annotations

import numpy as np

from pgcourse import checks

EPSILONS = 100.0  # a spread of at most so many ε, relative to the size of the numbers, is a rounding error


def is_rounding_error(spread: float | np.floating, scale: float | np.floating) -> bool:
    """Return whether a spread, at least 0, is no more than the rounding errors of numbers of this size.

    spread ≤ 100 ε · scale        ε = 2⁻⁵² in double and 2⁻²³ in single precision, that of ``spread``

    Higham (2002), section 4.2.
    """
    checks.real(spread=spread, scale=scale)
    if not isinstance(spread, np.floating):
        spread = float(spread)
    return bool(spread <= EPSILONS * np.finfo(np.asarray(spread).dtype).eps * scale)
