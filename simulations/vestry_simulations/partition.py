"""Splitting one data file into virtual sites: by a column, or at random.

``dirichlet:ALPHA`` draws, for each class, the shares of the sites from a symmetric Dirichlet distribution
(label skew; Yurochkin et al., ICML 2019, arXiv:1905.12022, section 4, after Hsu et al., arXiv:1909.06335);
``quantity:ALPHA`` draws the sizes of the sites so. Small ALPHA means very different sites.

    VestryError
    └── SimulationError
        └── PartitionError    the rows cannot be split as asked
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vestry_privacy.disclosure import safe_count
from vestry_privacy.errors import VestryError
from vestry_strategies.rows import Indexes, distinct

__all__ = [
    "Partition",
    "PartitionError",
    "SimulationError",
    "parse_partition",
    "partition_by_column",
    "partition_rows",
]

_TRIES = 200


class SimulationError(VestryError):
    """The laboratory cannot run what was asked."""


class PartitionError(SimulationError):
    """The rows cannot be split as asked."""


@dataclass(frozen=True)
class Partition:
    """How rows are dealt to sites.

    Attributes:
        kind: ``iid``, ``dirichlet`` or ``quantity``.
        alpha: concentration of the Dirichlet distribution; 0 for ``iid``.
    """

    kind: str
    alpha: float = 0.0

    def text(self) -> str:
        """As on the command line."""
        return self.kind if self.kind == "iid" else f"{self.kind}:{self.alpha:g}"


def parse_partition(text: str) -> Partition:
    """Read ``iid``, ``dirichlet:ALPHA`` or ``quantity:ALPHA``.

    Raises:
        PartitionError: anything else, or an ALPHA that is not above 0.
    """
    kind, colon, number = text.partition(":")
    if kind == "iid" and not colon:
        return Partition("iid")
    try:
        alpha = float(number)
    except ValueError:
        alpha = 0.0
    if kind not in {"dirichlet", "quantity"} or not 0 < alpha < float("inf"):
        raise PartitionError(
            f"--partition: '{text}' is unknown; use iid, dirichlet:ALPHA or quantity:ALPHA "
            "with ALPHA above 0, such as dirichlet:0.5"
        )
    return Partition(kind, alpha)


def partition_by_column(values: NDArray[np.str_], column: str) -> dict[str, Indexes]:
    """One site for each value of a column.

    Raises:
        PartitionError: a row has no value, or there is only one site.
    """
    empty = int((values == "").sum())
    if empty:
        raise PartitionError(f"--by: column '{column}' is empty in {safe_count(empty)}")
    names = distinct(values.tolist())
    if len(names) < 2:
        raise PartitionError(
            f"--by: column '{column}' has {len(names)} value; a federation needs at least 2 sites"
        )
    return {name: np.flatnonzero(values == name).astype(np.int64) for name in names}


def partition_rows(
    partition: Partition, sites: int, rows: int, labels: NDArray[Any] | None, seed: int
) -> dict[str, Indexes]:
    """Deal rows to ``sites`` sites at random.

    Args:
        partition: how.
        sites: number of sites, at least 2.
        rows: number of rows.
        labels: (rows,) class of each row for ``dirichlet``; None where the target has no classes.
        seed: of the draw.

    Returns:
        ``site-1`` ... to the sorted indexes of its rows; every row once, no site empty.

    Raises:
        PartitionError: too few rows, no classes, or no draw without an empty site.
    """
    if sites < 2:
        raise PartitionError(f"--sites: {sites} is too few; a federation needs at least 2 sites")
    if rows < sites:
        raise PartitionError(f"--sites: {sites} sites are more than the {safe_count(rows)} there are")
    generator = np.random.default_rng(seed)
    for _ in range(_TRIES):
        if partition.kind == "iid":
            parts = np.array_split(generator.permutation(rows), sites)
        elif partition.kind == "quantity":
            parts = _by_share(generator, generator.permutation(rows), partition.alpha, sites)
        else:
            parts = _by_label(generator, labels, partition.alpha, sites)
        if all(len(part) for part in parts):
            width = len(str(sites))
            return {
                f"site-{number:0{width}d}": np.sort(part).astype(np.int64)
                for number, part in enumerate(parts, start=1)
            }
    raise PartitionError(
        f"--partition: {partition.text()} left a site empty in {_TRIES} draws; "
        "use fewer sites or a larger ALPHA"
    )


def _by_share(
    generator: np.random.Generator, order: NDArray[Any], alpha: float, sites: int
) -> list[NDArray[Any]]:
    shares = generator.dirichlet(np.full(sites, alpha))
    cuts = np.round(np.cumsum(shares)[:-1] * len(order)).astype(np.int64)
    return np.split(order, cuts)


def _by_label(
    generator: np.random.Generator, labels: NDArray[Any] | None, alpha: float, sites: int
) -> list[NDArray[Any]]:
    if labels is None:
        raise PartitionError("--partition: dirichlet needs a target with classes; use quantity:ALPHA or iid")
    parts: list[list[NDArray[Any]]] = [[] for _ in range(sites)]
    for label in np.unique(labels):
        order = generator.permutation(np.flatnonzero(labels == label))
        for part, piece in zip(parts, _by_share(generator, order, alpha, sites), strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in parts]
