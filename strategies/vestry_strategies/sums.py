"""Named sums: the only form in which statistics and metrics leave a site.

A sum over sites of named float64 arrays is all the coordinator needs to know for means, variances,
confusion counts and score histograms, and it is what a secure sum can carry later (docs/adr/0004).
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrays", "Sums", "add_sums"]

Arrays = Mapping[str, NDArray[np.float64]]
"""Named float64 arrays (read-only by convention): preprocessing, server state, site state."""

Sums = dict[str, NDArray[np.float64]]
"""Named float64 arrays that add up over sites."""


def add_sums(parts: Iterable[Arrays]) -> Sums:
    """Add named arrays of equal names and shapes, in the order given.

    Args:
        parts: one mapping for each site; at least one.

    Returns:
        The element-wise sums, float64.

    Raises:
        ValueError: no part, or names or shapes that differ.
    """
    total: Sums = {}
    first = True
    for part in parts:
        if first:
            total = {name: np.array(array, dtype=np.float64) for name, array in part.items()}
            first = False
            continue
        if part.keys() != total.keys():
            raise ValueError(f"names={sorted(part)} differ from names={sorted(total)}")
        for name, array in part.items():
            if array.shape != total[name].shape:
                raise ValueError(f"{name}: shape={array.shape} differs from {total[name].shape}")
            total[name] += array
    if first:
        raise ValueError("parts=0: nothing to add")
    return total
