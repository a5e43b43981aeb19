"""What a run tells while it works, and what it remembers of each round."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vestry_strategies.task import Metrics

__all__ = [
    "Event",
    "Listener",
    "RoundFailed",
    "RoundRecord",
    "SecureAggregation",
    "StatisticsDone",
    "Working",
]


@dataclass(frozen=True)
class RoundRecord:
    """A finished round.

    Attributes:
        round: from 1.
        loss: mean training loss of the sites, weighted as the updates; None where it may not leave.
        metrics: over the held-out rows of all sites, from their summed metric sums.
        per_site: the same for each site; empty under secure aggregation, which shows no single one.
        sites: whose updates are in the model.
        left_out: site -> reason.
        attempt: which try it was, from 1.
        model_hash: SHA-256 of the new global model.
        bytes_up: size of all updates received; under secure aggregation of all steps' messages.
        bytes_down: size of all models sent; likewise.
        epsilon: under [privacy] what the study has cost a training person so far, at the site where it cost
            most (PLD, at the study's delta).
    """

    round: int
    loss: float | None
    metrics: Metrics
    per_site: Mapping[str, Metrics]
    sites: tuple[str, ...]
    left_out: Mapping[str, str]
    attempt: int
    model_hash: str
    bytes_up: int
    bytes_down: int
    epsilon: float | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> "RoundRecord":
        """Read back :meth:`plain`."""
        return RoundRecord(**{**plain, "sites": tuple(plain["sites"])})


@dataclass(frozen=True)
class StatisticsDone:
    """Round 0 is done: these sites have data that keep the contract.

    Attributes:
        sites: they take part.
        left_out: site -> reason; they do not.
        examples: training examples over all sites.
    """

    sites: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    examples: int = 0


@dataclass(frozen=True)
class RoundFailed:
    """A try at a round had too few usable updates.

    Attributes:
        round: from 1; 0 for the statistics.
        attempt: from 1.
        left_out: site -> reason.
        reason: why the secure sum ended; empty without one.
    """

    round: int
    attempt: int
    left_out: Mapping[str, str]
    reason: str = ""


@dataclass(frozen=True)
class SecureAggregation:
    """A run, new or resumed, begins in which only sums are seen.

    Attributes:
        sites: of a sum.
        words: among how many honest sites an update is hidden.
    """

    sites: int
    words: str


@dataclass(frozen=True)
class Working:
    """Something that takes a while has begun.

    Attributes:
        what: in words.
    """

    what: str


Event = StatisticsDone | RoundRecord | RoundFailed | SecureAggregation | Working
Listener = Callable[[Event], None]
