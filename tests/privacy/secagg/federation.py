"""A small federation in one process: real keys, real messages, a journal that counts."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from vestry_privacy.identity import SiteIdentity
from vestry_privacy.secagg import client
from vestry_privacy.secagg.directory import Directory, Member
from vestry_privacy.secagg.errors import Repeated
from vestry_privacy.secagg.history import NO_HEAD, Head
from vestry_privacy.secagg.messages import read_plan, sign_plan
from vestry_privacy.secagg.plan import Plan, threshold
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.server import SumServer

__all__ = ["CountingJournal", "Federation", "identity", "make_plan"]

SEED = b"a seed of the rounding, 32 bytes"


def identity(number: int) -> SiteIdentity:
    """An identity from a number, the same each time."""
    return SiteIdentity(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


@dataclass
class CountingJournal:
    """Refuses a second time, and remembers what came."""

    events: list[str] = field(default_factory=list)
    peers: dict[bytes, tuple[Head, Head]] = field(default_factory=dict)

    def see_peers(self, heads: dict[bytes, tuple[Head, Head]]) -> None:
        """Remember."""
        self.peers.update(heads)

    def consume(self, plan_hash: bytes) -> None:
        """Once."""
        self._once("consume")

    def sign(self, plan_hash: bytes, view: bytes, inputs: dict[bytes, Head]) -> None:
        """Once."""
        self._once("sign")

    def reveal(self, plan_hash: bytes) -> None:
        """Once."""
        self._once("reveal")

    def _once(self, event: str) -> None:
        if event in self.events:
            raise Repeated("journal", event)
        self.events.append(event)


def make_plan(directory: Directory, **changes: Any) -> Plan:
    """A plan of the whole directory, with changes."""
    roster = changes.get("roster", directory.roster())
    plan = Plan(
        study=b"s" * 32,
        run="run-1",
        kind="train",
        sequence=1,
        round=1,
        directory=directory.version,
        roster=roster,
        model=b"m" * 32,
        configuration=b"c" * 32,
        code=b"v" * 32,
        values=10,
        wide=1,
        lane_bits=21,
        value_range=4.0,
        weight_limit=100,
        threshold=threshold(len(roster)),
        least=3,
        privacy=b"",
        deadline=60.0,
    )
    return replace(plan, **changes)


@dataclass
class Federation:
    """Sites and a server, step by step.

    Attributes:
        sites: how many.
        changes: to the plan.
    """

    sites: int = 4
    changes: Mapping[str, Any] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    journals: dict[str, CountingJournal] = field(default_factory=dict)
    inputs: dict[str, tuple[NDArray[np.float32], int, NDArray[np.float64]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Keys, directory, plan and server."""
        self.identities = {f"site-{number:03d}": identity(number + 1) for number in range(self.sites)}
        self.coordinator = identity(10_000)
        members = [Member(name, f"org of {name}", one.public_key) for name, one in self.identities.items()]
        self.directory = Directory.of(1, self.coordinator.public_key, members)
        self.plan = make_plan(self.directory, **self.changes)
        self.signed_plan = sign_plan(self.plan, self.coordinator)
        self.server = SumServer(self.plan, self.directory, self.signed_plan)
        self.roster = Roster.of(self.plan, self.directory)
        self.names = self.roster.names
        generator = np.random.default_rng(5)
        for number, name in enumerate(self.names):
            values = generator.uniform(-1, 1, self.plan.values).astype(np.float32)
            self.inputs[name] = (values, 10 + number, generator.normal(size=self.plan.wide))
            self.journals[name] = CountingJournal()

    def advertise(self, without: Collection[str] = ()) -> None:
        """Step 1."""
        for name in self._those(self.names, without):
            roster = Roster.of(read_plan(self.signed_plan, self.directory), self.directory)
            heads = (NO_HEAD, NO_HEAD)
            self.states[name], sent = client.advertise(roster, self.identities[name], name, heads, os.urandom)
            self.server.collect_keys(name, sent)
        self.keys = self.server.roster_keys()

    def deal(self, without: Collection[str] = ()) -> None:
        """Step 2."""
        for name in self._those(self.states, without):
            state, sent = client.deal(self.states[name], self.keys, self.journals[name], os.urandom)
            self.states[name] = state
            self.server.collect_shares(name, sent)

    def accept(self, without: Collection[str] = ()) -> None:
        """Step 3."""
        for name in self._those(self.states, without):
            self.states[name], sent = client.accept(self.states[name], self.server.deliver_to(name))
            self.server.collect_ready(name, sent)
        self.server.expect_input()

    def mask(self, without: Collection[str] = ()) -> None:
        """Step 4."""
        for name in self._those(self.states, without):
            values, weight, wide = self.inputs[name]
            self.states[name], header, words = client.mask(
                self.states[name], values, weight, wide, Secret(SEED), self.journals[name]
            )
            self.server.add_input(name, header, words)
        self.survivors = self.server.survivors()

    def agree(self, without: Collection[str] = ()) -> None:
        """Step 5."""
        for name in self._those(self.states, without):
            self.states[name], sent = client.agree(self.states[name], self.survivors, self.journals[name])
            self.server.collect_consistent(name, sent)
        self.signatures = self.server.unmask()

    def reveal(self, without: Collection[str] = ()) -> None:
        """Step 6."""
        for name in self._those(self.states, without):
            self.states[name], sent = client.reveal(self.states[name], self.signatures, self.journals[name])
            self.server.collect_revealed(name, sent)

    def until(self, step: str) -> "Federation":
        """All steps before a step, with everybody."""
        for one in ("advertise", "deal", "accept", "mask", "agree", "reveal"):
            if one == step:
                break
            run: Callable[[], None] = getattr(self, one)
            run()
        return self

    def _those(self, names: Collection[str], without: Collection[str]) -> list[str]:
        for name in without:
            self.states.pop(name, None)
        return [name for name in names if name not in without]
