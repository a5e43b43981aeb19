"""What the coordinator orders and what a site replies, as plain typed objects.

In one process they are handed over as they are; `messages.py` puts them into Flower's records.
"""

from dataclasses import dataclass, field
from typing import Literal

from vestry_strategies.parameters import Vector
from vestry_strategies.sums import Arrays

__all__ = [
    "DescribeOrder",
    "DescribeReply",
    "EvaluateOrder",
    "EvaluateReply",
    "FinishOrder",
    "FinishReply",
    "Order",
    "Refusal",
    "RefusalCode",
    "Reply",
    "StatisticsOrder",
    "StatisticsReply",
    "TrainOrder",
    "TrainReply",
]


@dataclass(frozen=True)
class DescribeOrder:
    """Who is there?"""


@dataclass(frozen=True)
class StatisticsOrder:
    """Round 0: sums for the shared preprocessing.

    Attributes:
        study: the study as JSON.
    """

    study: str


@dataclass(frozen=True)
class TrainOrder:
    """Local steps from the global model.

    Attributes:
        study: the study as JSON.
        round: from 1.
        finished: last round whose model the coordinator has kept; older site state may go.
        model: (d,) the global model x.
        preprocessing: shared over the sites.
        shared: the server's arrays that the strategy broadcasts.
    """

    study: str
    round: int
    finished: int
    model: Vector
    preprocessing: Arrays = field(default_factory=dict)
    shared: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluateOrder:
    """Metric sums of a model on the held-out rows.

    Attributes:
        study: the study as JSON.
        round: after which the model stands; 0 before the first.
        model: (d,).
        preprocessing: shared over the sites.
    """

    study: str
    round: int
    model: Vector
    preprocessing: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class FinishOrder:
    """The study is over: what a site still holds for it is free again.

    Attributes:
        study: the study as JSON.
    """

    study: str


Order = DescribeOrder | StatisticsOrder | TrainOrder | EvaluateOrder | FinishOrder


@dataclass(frozen=True)
class DescribeReply:
    """A site is there."""

    site: str


@dataclass(frozen=True)
class StatisticsReply:
    """This site's part of round 0.

    Attributes:
        site: who.
        sums: exact, or noised under [privacy]; empty where none may leave or none are needed.
        guarantee: ``cryptographic``, or ``none``: under the study's [privacy], what the site's part is.
    """

    site: str
    sums: Arrays
    guarantee: str = ""


@dataclass(frozen=True)
class TrainReply:
    """A client update.

    Attributes:
        site: who.
        round: of the order.
        update: (d + k,) float32, the local model minus the global one, and the strategy's extra values.
        weight: number of training examples, or 1; under [privacy] a public constant.
        loss: mean training loss over the local steps; None under [privacy], where it may not leave.
        steps: local steps taken.
        spent: under [privacy] what this study has cost a training person of this site so far, as JSON of
            the accounting's events; public numbers all of it.
    """

    site: str
    round: int
    update: Vector
    weight: float
    loss: float | None
    steps: int
    spent: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluateReply:
    """Metric sums of this site's held-out rows; noised under [privacy]."""

    site: str
    round: int
    sums: Arrays


@dataclass(frozen=True)
class FinishReply:
    """This site has closed its books on the study."""

    site: str


RefusalCode = Literal["policy", "ledger", "study", "data", "diverged", "lost", "internal"]
"""Why a site answers without a result: its policy, its privacy ledger, an unreadable or unknown study, its
data, a loss that is not finite, a process that died, or an error whose text stays in the site's own log."""


@dataclass(frozen=True)
class Refusal:
    """A site answers that it will not or cannot.

    Attributes:
        site: who.
        code: why.
        message: for the coordinator; holds no value of any patient.
    """

    site: str
    code: RefusalCode
    message: str


Reply = DescribeReply | StatisticsReply | TrainReply | EvaluateReply | FinishReply | Refusal
