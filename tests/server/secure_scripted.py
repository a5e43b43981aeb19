"""Scripted sites behind the real protocol: what a script says in the clear goes into real secure sums."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.server.scripted import Course, Script, obedient
from vestry_privacy.identity import SiteIdentity
from vestry_privacy.secagg.client import (
    Advertised,
    Agreed,
    Dealt,
    Masked,
    Ready,
    Revealing,
    accept,
    advertise,
    agree,
    deal,
    mask,
    reveal,
)
from vestry_privacy.secagg.deals import Complained
from vestry_privacy.secagg.directory import Directory, Member
from vestry_privacy.secagg.history import NO_HEAD, Head
from vestry_privacy.secagg.messages import read_plan
from vestry_privacy.secagg.plan import Plan
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.secret import Secret
from vestry_server.secure_run import SecureRun
from vestry_strategies.orders import (
    EvaluateOrder,
    EvaluateReply,
    MaskedReply,
    Order,
    Refusal,
    Reply,
    SecureOrder,
    SecureReply,
    StatisticsOrder,
    StatisticsReply,
    TrainOrder,
    TrainReply,
)
from vestry_strategies.secure_plan import DIVERGED, LOSS, SumKind, sum_layout
from vestry_strategies.study import study_from_json
from vestry_strategies.tasks.registry import find_task

__all__ = ["Meddle", "Notes", "SecureCourse", "SecureScripted", "federation", "new_identity"]

Meddle = Callable[[str, Order, Reply], Reply | None]
"""(site, order, its reply) -> what arrives; None is silence."""

SECURE = ("secure = false", "secure = true")


def untouched(site: str, order: Order, reply: Reply) -> Reply | None:
    """Nobody meddles."""
    return reply


def new_identity() -> SiteIdentity:
    """A key pair that is on no disk."""
    return SiteIdentity(Ed25519PrivateKey.generate())


def federation(names: tuple[str, ...]) -> tuple[Directory, SiteIdentity, dict[str, SiteIdentity]]:
    """A directory, the coordinator's key and the sites' keys."""
    coordinator, keys = new_identity(), {name: new_identity() for name in names}
    members = [Member(name, f"{name} hospital", key.public_key) for name, key in keys.items()]
    return Directory.of(1, coordinator.public_key, members), coordinator, keys


class Notes:
    """A journal for scripted sites; what it writes down is the course of a sum."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, bytes]] = []

    @property
    def witness(self) -> Head:
        """Number of masked inputs, and something that stands for them."""
        count = sum(what == "consume" for what, _ in self.lines)
        return Head(0, count, count.to_bytes(32, "big"))

    def see_peers(self, heads: Mapping[bytes, tuple[Head, Head]]) -> None:
        """All are as high as they were."""

    def consume(self, plan_hash: bytes) -> None:
        """Once."""
        self._note("consume", plan_hash)

    def sign(self, plan_hash: bytes, view: bytes, inputs: dict[bytes, Head]) -> None:
        """Once."""
        self._note("sign", plan_hash)

    def reveal(self, plan_hash: bytes) -> None:
        """Once."""
        self._note("reveal", plan_hash)

    def _note(self, what: str, plan_hash: bytes) -> None:
        assert (what, plan_hash) not in self.lines
        self.lines.append((what, plan_hash))


@dataclass
class Seat:
    """One scripted site between the steps of a sum."""

    name: str
    identity: SiteIdentity
    notes: Notes = field(default_factory=Notes)
    plan: Plan | None = None
    state: Advertised | Dealt | Ready | Masked | Agreed | Revealing | None = None


class SecureScripted:
    """An exchange of scripted sites that take part in secure sums.

    Args:
        names: the sites.
        script: what a site would say in the clear.
        meddle: what becomes of its reply on the way.
        absent: sites that are not connected.
    """

    def __init__(
        self,
        names: tuple[str, ...] = ("a", "b", "c", "d"),
        script: Script = obedient,
        meddle: Meddle = untouched,
        absent: tuple[str, ...] = (),
    ) -> None:
        self.script, self.meddle, self.absent = script, meddle, absent
        self.directory, self.coordinator, keys = federation(names)
        self.seats = {name: Seat(name, keys[name]) for name in names}
        self.asked: list[tuple[str, Order]] = []
        self.plans: list[Plan] = []

    def sites(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.seats) - set(self.absent)))

    def send(self, orders: Mapping[str, Order], deadline_seconds: float) -> Iterator[Reply]:
        for site, order in sorted(orders.items()):
            self.asked.append((site, order))
            reply = self.answer(self.seats[site], order)
            arrived = None if reply is None else self.meddle(site, order, reply)
            if arrived is not None:
                yield arrived

    def answer(self, seat: Seat, order: Order) -> Reply | None:
        if isinstance(order, SecureOrder):
            return SecureReply(seat.name, order.step, order.plan, self.step(seat, order))
        reply = self.script(seat.name, order)
        if reply is None or isinstance(reply, Refusal) or not getattr(order, "secure", ""):
            return reply
        assert isinstance(order, StatisticsOrder | TrainOrder | EvaluateOrder)
        return self.masked(seat, order, reply)

    def step(self, seat: Seat, order: SecureOrder) -> bytes:
        if order.step == "keys":
            seat.plan = read_plan(order.message, self.directory)
            if seat.plan not in self.plans:
                self.plans.append(seat.plan)
            roster = Roster.of(seat.plan, self.directory)
            heads = (seat.notes.witness, NO_HEAD)
            seat.state, sent = advertise(roster, seat.identity, seat.name, heads, os.urandom)
            return sent
        if order.step == "shares":
            assert isinstance(seat.state, Advertised)
            seat.state, sent = deal(seat.state, order.message, seat.notes, os.urandom)
            return sent
        if order.step == "deliver":
            assert isinstance(seat.state, Dealt)
            try:
                seat.state, sent = accept(seat.state, order.message)
            except Complained as error:
                return error.complaint
            return sent
        if order.step == "survivors":
            assert isinstance(seat.state, Masked)
            seat.state, sent = agree(seat.state, order.message, seat.notes)
            return sent
        assert isinstance(seat.state, Agreed)
        seat.state, sent = reveal(seat.state, order.message, seat.notes)
        return sent

    def masked(self, seat: Seat, order: StatisticsOrder | TrainOrder | EvaluateOrder, reply: Reply) -> Reply:
        study = study_from_json(order.study)
        values, weight = np.zeros(0, dtype=np.float32), 1
        sums: dict[str, Any] = {}
        kind: SumKind = "evaluate"
        public: dict[str, object] = {}
        if isinstance(reply, TrainReply):
            kind, values, weight = "train", reply.update, int(reply.weight)
            if study.privacy is None:
                sums = {
                    LOSS: np.float64(weight * (reply.loss or 0.0)),
                    DIVERGED: np.float64(reply.loss is None),
                }
            else:
                public = {"spent": reply.spent, "weight": weight}
        elif isinstance(reply, StatisticsReply):
            kind, sums = "statistics", dict(reply.sums)
            if study.privacy is None and study.aggregation.weighting == "examples":
                weight = int(reply.sums["examples"][0])
            elif study.privacy is not None:
                public = {"weight": 40}
        else:
            assert isinstance(reply, EvaluateReply)
            sums = dict(reply.sums)
        assert isinstance(seat.state, Ready)
        assert seat.plan is not None
        assert order.secure == seat.plan.digest.hex()
        layout = sum_layout(study, find_task(study), kind)
        wide = layout.flatten({name: sums[name] for name in layout.shapes})
        seed = Secret(os.urandom(32))
        seat.state, header, vector = mask(seat.state, values, weight, wide, seed, seat.notes)
        number = getattr(order, "round", 0)
        return MaskedReply(seat.name, number, order.secure, header, vector, **public)  # type: ignore[arg-type]


class SecureCourse(Course):
    """A run of the small study in secure sums over scripted sites."""

    def __init__(self, *changes: tuple[str, str], sites: SecureScripted | None = None) -> None:
        self.sites = sites or SecureScripted()
        self.secure = SecureRun(self.sites.directory, self.sites.coordinator, "run")
        super().__init__(SECURE, *changes, exchange=self.sites, secure=self.secure)

    def plans(self, kind: str) -> list[Plan]:
        """The plans of a kind that a site has seen, in order."""
        return [plan for plan in self.sites.plans if plan.kind == kind]
