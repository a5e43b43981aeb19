"""Per-record vectors of bounded norm: what a noised sum is made of, and how it is read.

A task writes what it would release of one record as a vector whose L2 norm is at most a public bound. The
site averages the vectors of one person, adds up the persons, adds noise scaled to the bound; what leaves has
the same names as the task's exact sums.

Symbols: n records, k values, S the bound.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.sums import Sums

__all__ = ["BoundedPart", "BoundedSums", "stack_parts"]


@dataclass(frozen=True)
class BoundedPart:
    """One named part of the vectors.

    Attributes:
        values: (n, ...) float64, a record each.
        bound: largest L2 norm of one record's part; a public constant.
        unit: what a released value is multiplied by, one constant or one for each value; public, so that
            values of different sizes can share one bound.
    """

    values: NDArray[Any]
    bound: float
    unit: float | NDArray[np.float64] = 1.0


@dataclass(frozen=True)
class BoundedSums:
    """Vectors of all records, and how their sum is read.

    Attributes:
        values: (n, k) float64.
        bound: S, the largest L2 norm of a row.
        shapes: name -> shape, in the order of the columns.
        units: name -> what the part is multiplied by after the noise.
    """

    values: NDArray[np.float64]
    bound: float
    shapes: Mapping[str, tuple[int, ...]]
    units: Mapping[str, float | NDArray[np.float64]]

    def read(self, total: NDArray[np.float64]) -> Sums:
        """Name the parts of a sum of shape (k,).

        Raises:
            ValueError: another length.
        """
        if total.shape != (self.values.shape[1],):
            raise ValueError(f"shape={total.shape} must be ({self.values.shape[1]},)")
        sums: Sums = {}
        offset = 0
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            sums[name] = total[offset : offset + size].reshape(shape) * self.units[name]
            offset += size
        return sums


def stack_parts(parts: Mapping[str, BoundedPart]) -> BoundedSums:
    """Put named parts side by side.

    Guarantees:
        The bound is the root of the sum of the squared bounds, so it holds for every row whose parts keep
        theirs.
    """
    columns = [np.asarray(part.values, dtype=np.float64) for part in parts.values()]
    return BoundedSums(
        # No -1: a site may have no records, and numpy cannot tell the width of nothing.
        values=np.concatenate([c.reshape(len(c), math.prod(c.shape[1:])) for c in columns], axis=1),
        bound=math.sqrt(math.fsum(part.bound**2 for part in parts.values())),
        shapes={name: column.shape[1:] for name, column in zip(parts, columns, strict=True)},
        units={name: part.unit for name, part in parts.items()},
    )
