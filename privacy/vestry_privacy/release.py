"""Noised sums beside the model: statistics of round 0, metrics. One person moves a sum by a public bound.

Source: the Gaussian mechanism (Dwork et al., EUROCRYPT 2006; Dwork and Roth 2014, appendix A), the vectors of
one person averaged and clipped first (user-level sums as in McMahan et al., ICLR 2018, arXiv:1710.06963).

Symbols: n records, k values, S bound of one person's vector, sigma noise multiplier.
"""

import numpy as np
from numpy.typing import NDArray

from vestry_privacy.noise import NoiseSource, add_gaussian

__all__ = ["MARGIN", "noised_sum", "person_vectors"]

MARGIN = 2.0**-20
"""Taken off S, so that float64 rounding stays inside the bound."""

_PERSONS = 1 << 24  # the noise grid may not depend on how many there are


def person_vectors(
    values: NDArray[np.float64],
    unit: NDArray[np.int64],
    bound: float,
    max_records: int,
    source: NoiseSource,
) -> NDArray[np.float64]:
    """One vector for each person: the mean of at most ``max_records`` of their records, clipped.

    Args:
        values: (n, k), a row for each record.
        unit: (n,) number of the person that a record belongs to.
        bound: S.
        max_records: m; which records are used is drawn with fresh randomness.
        source: of that randomness.

    Returns:
        (persons, k), each row of L2 norm at most S.

    Guarantees:
        A row depends on one person's records only. A row that is not finite counts as zero.
    """
    persons, of = np.unique(unit, return_inverse=True)
    order = np.lexsort((source.uniforms(len(unit)), of))
    first = np.searchsorted(of[order], np.arange(len(persons)))
    rank = np.arange(len(unit)) - first[of[order]]
    used = order[rank < max_records]
    sums = np.zeros((len(persons), values.shape[1]))
    counts = np.minimum(np.bincount(of, minlength=len(persons)), max_records)
    limit = bound * (1.0 - MARGIN)
    with np.errstate(over="ignore", invalid="ignore"):  # a warning would tell of somebody's values
        np.add.at(sums, of[used], values[used])
        means = sums / np.maximum(counts, 1)[:, None]
        means[~np.isfinite(means).all(axis=1)] = 0.0
        norms = np.linalg.norm(means, axis=1)  # infinite for squares that overflow: counts as zero too
    clipped: NDArray[np.float64] = means * np.minimum(1.0, limit / np.maximum(norms, limit))[:, None]
    return clipped


def noised_sum(
    values: NDArray[np.float64],
    unit: NDArray[np.int64],
    bound: float,
    noise_multiplier: float,
    max_records: int,
    source: NoiseSource,
) -> NDArray[np.float64]:
    """Sum over persons with Gaussian noise of deviation sigma S.

    Args:
        values: (n, k), a row for each record; n may be 0.
        unit: (n,) number of the person that a record belongs to.
        bound: S, a public constant.
        noise_multiplier: sigma.
        max_records: most records of one person.
        source: of all randomness.

    Returns:
        (k,).

    Raises:
        ValueError: bound or sigma are not above 0.

    Guarantees:
        Replacing one person's records by none moves the sum by at most S before the noise.
    """
    total = person_vectors(values, unit, bound, max_records, source).sum(axis=0)
    return add_gaussian(total, bound, noise_multiplier, source, persons=_PERSONS)
