"""The package's own implementation over a case of the reference: the same seeds, the same leaving sites."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from tests.privacy.secagg.reference import stream
from tests.privacy.secagg.reference_run import Case
from vestry_privacy.identity import SiteIdentity
from vestry_privacy.secagg import client
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.history import Head, Rules
from vestry_privacy.secagg.journal import Journal
from vestry_privacy.secagg.messages import read_plan
from vestry_privacy.secagg.plan import Plan
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.server import SumServer
from vestry_privacy.secagg.vector import Sum

__all__ = ["RealRun", "rules"]


def rules(study: bytes, **changes: Any) -> Rules:
    """Rules that let one study have its sums."""
    given = {
        "dataset": "heart",
        "rounds_allowed": 100,
        "may_repeat": False,
        "max_repeats": 0,
        "roster_change": 1,
    } | changes
    return Rules(study=study, **given)  # type: ignore[arg-type]


@dataclass
class RealRun:
    """Sites and server of a case, step by step; every message is kept by its sender's index."""

    case: Case
    states: dict[int, Any] = field(default_factory=dict)
    sent: dict[str, dict[int, bytes]] = field(default_factory=dict)
    words: dict[int, NDArray[np.uint64]] = field(default_factory=dict)
    relayed: dict[str, bytes] = field(default_factory=dict)
    delivered: dict[int, bytes] = field(default_factory=dict)
    result: Sum | None = None

    def __post_init__(self) -> None:
        """Both sides read the case's own bytes."""
        case = self.case
        self.directory = Directory.decode(case.directory)
        self.plan: Plan = read_plan(case.signed_plan, self.directory)
        self.roster = Roster.of(self.plan, self.directory)
        self.server = SumServer(self.plan, self.directory, case.signed_plan)
        private = [Ed25519PrivateKey.from_private_bytes(seat.identity) for seat in case.seats]
        self.identities = [SiteIdentity(key) for key in private]
        self.entropy: list[Callable[[int], bytes]] = [stream(seat.entropy) for seat in case.seats]
        self.journals = [Journal(None) for _ in case.seats]
        plan = self.plan
        for journal in self.journals:
            journal.accept(
                plan.digest, plan.run, plan.kind, plan.sequence, plan.round, plan.roster, plan.model,
                rules(plan.study),
            )  # fmt: skip

    def staying(self, step: str) -> list[int]:
        """Sites that still take part in a step."""
        seats = enumerate(self.case.seats)
        return [at for at, seat in seats if seat.stays(step) and (step == "keys" or at in self.states)]

    def name(self, index: int) -> str:
        return self.case.seats[index].name

    def keys(self) -> None:
        """Step 1."""
        self.sent["keys"] = {}
        for at in self.staying("keys"):
            seat = self.case.seats[at]
            heads = (Head(*seat.journal), Head(*seat.ledger))
            self.states[at], message = client.advertise(
                self.roster, self.identities[at], seat.name, heads, self.entropy[at]
            )
            self.sent["keys"][at] = message

    def deal(self, at: int, message: bytes) -> bytes:
        self.states[at], sent = client.deal(self.states[at], message, self.journals[at], self.entropy[at])
        return sent

    def accept(self, at: int, message: bytes) -> bytes:
        self.states[at], sent = client.accept(self.states[at], message)
        return sent

    def mask(self, at: int) -> bytes:
        seat = self.case.seats[at]
        values, wide = np.array(seat.values, dtype=np.float32), np.array(seat.wide, dtype=np.float64)
        self.states[at], sent, self.words[at] = client.mask(
            self.states[at], values, seat.weight, wide, Secret(seat.rounding), self.journals[at]
        )
        return sent

    def agree(self, at: int, message: bytes) -> bytes:
        self.states[at], sent = client.agree(self.states[at], message, self.journals[at])
        return sent

    def reveal(self, at: int, message: bytes) -> bytes:
        self.states[at], sent = client.reveal(self.states[at], message, self.journals[at])
        return sent

    def collect(self, step: str, at: int, message: bytes, words: NDArray[np.uint64] | None = None) -> None:
        """Hand a site's message to the server."""
        server, name = self.server, self.name(at)
        if step == "keys":
            server.collect_keys(name, message)
        elif step == "shares":
            server.collect_shares(name, message)
        elif step == "ready":
            server.collect_ready(name, message)
        elif step == "input":
            server.add_input(name, message, self.words[at] if words is None else words)
        elif step == "consistent":
            server.collect_consistent(name, message)
        else:
            server.collect_revealed(name, message)

    def send(self, step: str) -> None:
        """The sites' messages of a step, in order of their indexes."""
        if step == "keys":
            self.keys()
            return
        staying = self.staying("shares" if step == "ready" else step)
        messages: dict[int, bytes] = {}
        for at in staying:
            if step == "shares":
                messages[at] = self.deal(at, self.relayed["roster-keys"])
            elif step == "ready":
                messages[at] = self.accept(at, self.delivered[at])
            elif step == "input":
                messages[at] = self.mask(at)
            elif step == "consistent":
                messages[at] = self.agree(at, self.relayed["survivors"])
            else:
                messages[at] = self.reveal(at, self.relayed["unmask"])
        self.sent[step] = messages

    def close(self, step: str) -> None:
        """The server's answer to a step."""
        if step == "keys":
            self.relayed["roster-keys"] = self.server.roster_keys()
        elif step == "shares":
            self.delivered = {at: self.server.deliver_to(self.name(at)) for at in self.sent["shares"]}
        elif step == "ready":
            self.server.expect_input()
        elif step == "input":
            self.relayed["survivors"] = self.server.survivors()
        elif step == "consistent":
            self.relayed["unmask"] = self.server.unmask()
        else:
            self.result = self.server.result()

    def until(self, step: str) -> "RealRun":
        """Everything before a step's messages are sent."""
        for one in ("keys", "shares", "ready", "input", "consistent", "revealed"):
            if one == step:
                break
            self.send(one)
            for at, message in self.sent[one].items():
                self.collect(one, at, message)
            self.close(one)
        return self
