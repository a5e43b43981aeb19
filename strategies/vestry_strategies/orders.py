"""What the coordinator orders and what a site replies, as plain typed objects.

In one process they are handed over as they are; `messages.py` puts them into Flower's records.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.parameters import Vector
from vestry_strategies.sums import Arrays

__all__ = [
    "DescribeOrder",
    "DescribeReply",
    "EvaluateOrder",
    "EvaluateReply",
    "FinishOrder",
    "FinishReply",
    "MaskedReply",
    "Order",
    "Refusal",
    "RefusalCode",
    "Reply",
    "SecureOrder",
    "SecureReply",
    "SecureStep",
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
        secure: hash of the plan of the secure sum that the reply is for; empty for a reply in the clear.
    """

    study: str
    secure: str = ""


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
        secure: hash of the plan of the secure sum that the reply is for; empty for a reply in the clear.
    """

    study: str
    round: int
    finished: int
    model: Vector
    preprocessing: Arrays = field(default_factory=dict)
    shared: Arrays = field(default_factory=dict)
    secure: str = ""


@dataclass(frozen=True)
class EvaluateOrder:
    """Metric sums of a model on the held-out rows.

    Attributes:
        study: the study as JSON.
        round: after which the model stands; 0 before the first.
        model: (d,).
        preprocessing: shared over the sites.
        secure: hash of the plan of the secure sum that the reply is for; empty for a reply in the clear.
    """

    study: str
    round: int
    model: Vector
    preprocessing: Arrays = field(default_factory=dict)
    secure: str = ""


@dataclass(frozen=True)
class FinishOrder:
    """The study is over: what a site still holds for it is free again.

    Attributes:
        study: the study as JSON.
    """

    study: str


SecureStep = Literal["keys", "shares", "deliver", "survivors", "unmask"]
"""Steps of a secure sum beside the masked input itself (docs/secagg-protocol.md)."""


@dataclass(frozen=True)
class SecureOrder:
    """One step of a secure sum.

    Attributes:
        study: the study as JSON.
        step: which.
        plan: hash of the sum's plan, 64 hexadecimal digits.
        message: of ``keys`` the signed plan, else what the server relays.
    """

    study: str
    step: SecureStep
    plan: str
    message: bytes


Order = DescribeOrder | StatisticsOrder | TrainOrder | EvaluateOrder | FinishOrder | SecureOrder


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


@dataclass(frozen=True)
class SecureReply:
    """This site's message in one step of a secure sum.

    Attributes:
        site: who.
        step: of the order.
        plan: hash of the sum's plan, 64 hexadecimal digits.
        message: the protocol's bytes; of ``deliver`` they are ``ready`` or a complaint.
    """

    site: str
    step: SecureStep
    plan: str
    message: bytes


@dataclass(frozen=True)
class MaskedReply:
    """This site's part of a secure sum: noise to whoever has not the sum of all masks.

    The only reply to an order that names a secure sum. Whatever else a clear reply would say of this site
    alone (its loss, its weight, its sums) is inside the vector.

    Attributes:
        site: who.
        round: of the order; 0 for statistics.
        plan: hash of the sum's plan, 64 hexadecimal digits.
        header: the signed header, with the vector's digest.
        vector: (words,) uint64, masked.
        steps: local steps taken, where the study says how many; else 0, since passes over the data would
            count its rows.
        spent: as in :class:`TrainReply`.
        guarantee: as in :class:`StatisticsReply`.
        weight: of this site's update where it is a public constant, which is under [privacy]; else None.
    """

    site: str
    round: int
    plan: str
    header: bytes
    vector: NDArray[np.uint64]
    steps: int = 0
    spent: tuple[str, ...] = ()
    guarantee: str = ""
    weight: int | None = None


RefusalCode = Literal["policy", "ledger", "study", "data", "diverged", "lost", "internal", "secure"]
"""Why a site answers without a result: its policy, its privacy ledger, an unreadable or unknown study, its
data, a loss that is not finite, a process that died, an error whose text stays in the site's own log, or a
broken rule of secure aggregation."""


@dataclass(frozen=True)
class Refusal:
    """A site answers that it will not or cannot.

    Attributes:
        site: who.
        code: why.
        message: for the coordinator; holds no value of any patient.
        peer: another site that it accuses of books that are older than they were; else empty.
    """

    site: str
    code: RefusalCode
    message: str
    peer: str = ""


Reply = (
    DescribeReply
    | StatisticsReply
    | TrainReply
    | EvaluateReply
    | FinishReply
    | SecureReply
    | MaskedReply
    | Refusal
)
