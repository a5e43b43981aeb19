"""DP-SGD: sample whole units, clip each unit's mean gradient, add noise once, divide by a public number.

Source: Abadi et al., CCS 2016, arXiv:1607.00133, algorithm 1, with persons in place of records (user-level
sampling as in McMahan et al., ICLR 2018, arXiv:1710.06963). Sampler, clip and noise come from one
:class:`~vestry_privacy.plan.Mechanism`; nothing here chooses a privacy parameter.

Float results depend in their last bits on the shape of a batch, and hostile weights can blow these bits up to
the size of gradients. So the number of rows is public: every drawn place takes one, vacant places a row of
zeros whose part is exactly zero; without a public number of persons a batch is filled up to six deviations
above the expected batch. In random order, taking a person of one record out leaves the rows of all others bit
for bit as they were. Where that person has several records, the others move by float rounding.

    VestryError
    └── UnitError    the records do not fit the declared persons
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vestry_privacy.coupling import RecordShape, check_coupling
from vestry_privacy.errors import VestryError
from vestry_privacy.gradients import Losses, UnitBatch, unit_gradients
from vestry_privacy.noise import add_gaussian
from vestry_privacy.plan import Mechanism

__all__ = ["PrivateSteps", "UnitError", "UnitRecords", "group_units"]

Indexes = NDArray[np.int64]
_UNKNOWN_PERSONS = 1 << 20
"""Sets the noise's grid where the number of persons is not public: it shows in the result."""


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
        checked: :func:`~vestry_privacy.coupling.check_coupling` has passed this network and these losses.

    Raises:
        UnitError: more units than the plan's public number, or owners that do not fit inputs and targets.
        UnsupportedLayer: a layer couples records, or its gradient cannot be split.
        CoupledRecords: the losses couple records.
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
        checked: bool = False,
    ) -> None:
        if not len(inputs) == len(targets) == len(records.order) == records.starts[-1]:
            raise UnitError("inputs, targets and owners must be of the same number of records")
        if mechanism.slots is not None and records.units > mechanism.slots:
            raise UnitError(
                f"the data hold more persons than the public number {mechanism.slots} of their population; "
                "register a larger number"
            )
        self._gradients = unit_gradients(module, losses, autocast)
        if not checked:
            check_coupling(module, losses, RecordShape.of(inputs, targets))
        self._mechanism = mechanism
        self._inputs, self._targets, self._records = inputs, targets, records
        self._physical = physical_batch
        self._counts = np.diff(records.starts)
        self._one_each = bool((self._counts == 1).all())
        self._size = sum(p.numel() for p in module.parameters() if p.requires_grad)
        self.taken = 0

    def gradient(self) -> torch.Tensor:
        """One step's noised mean gradient, (trainable,) float32 on the network's device.

        Guarantees:
            The clipped sum moves by at most C when one unit's records are replaced by none. The noise is
            added once, after the last micro-batch: an exception before it leaves nothing behind. An empty
            draw is a step with noise only, and counts.
        """
        rule = self._mechanism
        total = self._clipped_sum().cpu().numpy()
        persons = rule.slots if rule.slots is not None else _UNKNOWN_PERSONS
        noisy = add_gaussian(total, rule.clip, rule.noise_multiplier, rule.source, persons)
        self.taken += 1
        mean = torch.from_numpy(noisy).div_(rule.normaliser).to(torch.float32)
        return mean.to(self._inputs.device)

    def _clipped_sum(self) -> torch.Tensor:
        """(trainable,) float64 sum of one step's clipped gradients; must not leave without noise."""
        total: torch.Tensor | None = None
        for batch in self._micro_batches(self._places()):
            part = self._gradients.clipped_sum(batch, self._mechanism.clip).total
            total = part if total is None else total.add_(part)
        return torch.zeros(self._size, dtype=torch.float64) if total is None else total

    def _places(self) -> Indexes:
        """The places of a step in random order; numbers from ``units`` on are vacant."""
        rule, units = self._mechanism, self._records.units
        drawn = rule.sampler.draw(units if rule.slots is None else rule.slots, rule.source)
        if rule.slots is None and len(drawn):
            room = math.ceil(rule.normaliser + 6 * math.sqrt(rule.normaliser))
            while room < len(drawn):
                room *= 2
            drawn = np.concatenate([drawn, np.full(room - len(drawn), units)])
        places: Indexes = drawn[np.argsort(rule.source.uniforms(len(drawn)), kind="stable")]
        return places

    def _micro_batches(self, places: Indexes) -> Iterator[UnitBatch]:
        """Whole units, so many that their records fit; none where only vacant places are left."""
        held = places < self._records.units
        if self._one_each and len(places) <= self._physical and held.all():  # the usual case, for speed
            if len(places):
                yield self._whole(places)
            return
        counts = np.ones(len(places), dtype=np.int64)
        counts[held] = np.minimum(self._counts[places[held]], self._mechanism.max_records)
        begin = 0
        while begin < len(places):
            ends = np.cumsum(counts[begin:])
            end = begin + max(1, int(np.searchsorted(ends, self._physical, side="right")))
            if held[begin:end].any():
                yield self._batch(places[begin:end], held[begin:end], counts[begin:end])
            begin = end

    def _whole(self, places: Indexes) -> UnitBatch:
        index = torch.from_numpy(self._records.order[places]).to(self._inputs.device)
        unit = torch.arange(len(places), device=self._inputs.device)
        inputs, targets = self._inputs.index_select(0, index), self._targets.index_select(0, index)
        return UnitBatch(inputs, targets, unit, len(places))

    def _batch(self, places: Indexes, held: NDArray[np.bool_], counts: Indexes) -> UnitBatch:
        of = np.repeat(np.arange(len(places)), counts)
        present = held[of]
        rows = np.zeros(len(of), dtype=np.int64)
        units = places[held]
        starts = self._records.starts[units]
        if (self._counts[units] == 1).all():
            rows[present] = self._records.order[starts]
        else:
            pairs = zip(starts, self._counts[units], strict=True)
            rows[present] = np.concatenate([self._choose(start, count) for start, count in pairs])
        device = self._inputs.device
        index, unit = torch.from_numpy(rows).to(device), torch.from_numpy(of).to(device)
        inputs, targets = self._inputs[index], self._targets[index]
        if held.all():
            return UnitBatch(inputs, targets, unit, len(places))
        absent = torch.from_numpy(~present).to(device)
        inputs[absent], targets[absent] = 0, 0
        return UnitBatch(inputs, targets, unit, len(places), torch.from_numpy(~held).to(device))

    def _choose(self, start: int, count: int) -> Indexes:
        """At most ``max_records`` of a unit, drawn with fresh randomness and nobody else's data."""
        own = self._records.order[start : start + count]
        most = self._mechanism.max_records
        if count <= most:
            return own
        keys = self._mechanism.source.uniforms(int(count))
        return own[np.argsort(keys, kind="stable")[:most]]
