"""DP-SGD: sample whole units, clip each unit's mean gradient, add noise once, divide by a public number.

Source: Abadi et al., CCS 2016, arXiv:1607.00133, algorithm 1, with persons in place of records (user-level
sampling as in McMahan et al., ICLR 2018, arXiv:1710.06963). Sampler, clip and noise come from one
:class:`~vestry_privacy.plan.Mechanism`; nothing here chooses a privacy parameter.

    VestryError
    └── UnitError    the records do not fit the declared persons
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vestry_privacy.errors import VestryError
from vestry_privacy.gradients import Losses, UnitBatch, unit_gradients
from vestry_privacy.noise import add_gaussian
from vestry_privacy.plan import Mechanism

__all__ = ["PrivateSteps", "UnitError", "UnitRecords", "group_units"]

Indexes = NDArray[np.int64]


class UnitError(VestryError):
    """The records do not fit the declared persons."""


@dataclass(frozen=True)
class UnitRecords:
    """Which records belong to whom.

    Attributes:
        order: (n,) records, those of one unit beside each other.
        starts: (units + 1,) where each unit begins in ``order``.
    """

    order: Indexes
    starts: Indexes

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.starts) - 1


def group_units(unit: Indexes) -> UnitRecords:
    """Group records by unit.

    Args:
        unit: (n,) number of each record's unit, any integers.
    """
    order = np.argsort(unit, kind="stable").astype(np.int64)
    changes = np.flatnonzero(np.diff(unit[order])) + 1
    ends = [len(unit)] if len(unit) else []
    starts = np.concatenate([[0], changes, ends]) if len(unit) else np.zeros(1)
    return UnitRecords(order, starts.astype(np.int64))


class PrivateSteps:
    """Noised mean gradients of one network on one site's records.

    Args:
        module: the network; trained in place by the caller.
        losses: loss of each record from its own record only.
        mechanism: from the plan.
        inputs: (n, ...) on the network's device.
        targets: (n,).
        records: who owns which record.
        physical_batch: most records in one forward pass; has no influence on the result.
        autocast: mixed precision of the forward pass; None for none.

    Raises:
        UnitError: more units than the plan's public number.
        UnsupportedLayer: a layer couples records.
    """

    def __init__(
        self,
        module: nn.Module,
        losses: Losses,
        mechanism: Mechanism,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        records: UnitRecords,
        physical_batch: int = 512,
        autocast: torch.autocast | None = None,
    ) -> None:
        if mechanism.slots is not None and records.units > mechanism.slots:
            raise UnitError(
                f"the data hold more persons than the public number {mechanism.slots} of their population; "
                "register a larger number"
            )
        self._gradients = unit_gradients(module, losses, autocast)
        self._mechanism = mechanism
        self._inputs, self._targets, self._records = inputs, targets, records
        self._physical = physical_batch
        self._counts = np.diff(records.starts)
        self._size = sum(p.numel() for p in module.parameters())
        self.taken = 0

    def gradient(self) -> torch.Tensor:
        """One step's noised mean gradient, (trainable,) float32 on the network's device.

        Guarantees:
            The clipped sum moves by at most C when one unit's records are replaced by none. The noise is
            added once, after the last micro-batch: an exception before it leaves nothing behind. An empty
            draw is a step with noise only, and counts.
        """
        rule = self._mechanism
        slots = rule.slots if rule.slots is not None else self._records.units
        drawn = rule.sampler.draw(slots, rule.source)
        total = torch.zeros(self._size, dtype=torch.float64, device=self._inputs.device)
        for batch in self._micro_batches(drawn[drawn < self._records.units]):
            total += self._gradients.clipped_sum(batch, rule.clip).total
        summed = total.cpu().numpy()
        noisy = add_gaussian(summed, rule.clip, rule.noise_multiplier, rule.source, max(slots, 1))
        self.taken += 1
        mean = torch.from_numpy((noisy / rule.normaliser).astype(np.float32))
        return mean.to(self._inputs.device)

    def _micro_batches(self, units: Indexes) -> Iterator[UnitBatch]:
        """Whole units, so many that their records fit."""
        counts = np.minimum(self._counts[units], self._mechanism.max_records)
        begin = 0
        while begin < len(units):
            ends = np.cumsum(counts[begin:])
            size = max(1, int(np.searchsorted(ends, self._physical, side="right")))
            yield self._batch(units[begin : begin + size])
            begin += size

    def _batch(self, units: Indexes) -> UnitBatch:
        starts, counts = self._records.starts[units], self._counts[units]
        if (counts == 1).all():
            rows, of = self._records.order[starts], np.arange(len(units))
        else:
            chosen = [self._choose(start, count) for start, count in zip(starts, counts, strict=True)]
            rows = np.concatenate(chosen)
            of = np.repeat(np.arange(len(units)), [len(part) for part in chosen])
        device = self._inputs.device
        index = torch.from_numpy(rows).to(device)
        unit = torch.from_numpy(of.astype(np.int64)).to(device)
        return UnitBatch(self._inputs[index], self._targets[index], unit, len(units))

    def _choose(self, start: int, count: int) -> Indexes:
        """At most ``max_records`` of a unit, drawn with fresh randomness and nobody else's data."""
        own = self._records.order[start : start + count]
        most = self._mechanism.max_records
        if count <= most:
            return own
        keys = self._mechanism.source.uniforms(int(count))
        return own[np.argsort(keys, kind="stable")[:most]]
