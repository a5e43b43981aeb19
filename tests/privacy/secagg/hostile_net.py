"""Sums of real sites, server and journals over an adversary's network; what leaves a site is noted."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from tests.privacy.secagg.real_run import rules
from tests.privacy.secagg.reference import stream
from tests.privacy.secagg.reference_cases import Wish, make_case, seed
from vestry_privacy.identity import SiteIdentity
from vestry_privacy.secagg import client
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.errors import JournalError, ProtocolAbort
from vestry_privacy.secagg.history import NO_HEAD, Head
from vestry_privacy.secagg.journal import Journal
from vestry_privacy.secagg.masks import MaskStream
from vestry_privacy.secagg.messages import read_plan
from vestry_privacy.secagg.plan import Plan
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.server import SumServer
from vestry_privacy.secagg.vector import Sum

__all__ = ["Down", "Egress", "HostileNet", "Up"]

WEIGHTS = 1000
CLOSING = ("keys", "shares", "ready", "input", "consistent", "revealed")


@dataclass(frozen=True)
class Up:
    """A message on its way to the server."""

    step: str
    site: int
    message: bytes
    words: NDArray[np.uint64] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Down:
    """A message on its way to a site."""

    step: str
    site: int
    message: bytes


@dataclass
class Egress:
    """What left the sites.

    Attributes:
        left: (plan, step, site) -> how often.
        models: (site, kind, model) -> how often masked input left.
        keys: mask key -> (plan, site) that put it on a vector.
    """

    left: Counter[tuple[bytes, str, int]] = field(default_factory=Counter)
    models: Counter[tuple[int, str, bytes]] = field(default_factory=Counter)
    keys: dict[bytes, list[tuple[bytes, int]]] = field(default_factory=dict)


class HostileNet:
    """A federation whose messages pile up until the adversary delivers, drops, copies or spoils them."""

    def __init__(self, sites: int, folder: Path) -> None:
        self.base = make_case(Wish(f"net-{sites}", "", sites, {}, values=3, wide=1, weight_limit=WEIGHTS))
        self.folder, self.number = folder, 0
        keys = [Ed25519PrivateKey.from_private_bytes(seat.identity) for seat in self.base.seats]
        self.identities = [SiteIdentity(key) for key in keys]
        self.journals = [Journal.create(folder / f"{at}.db", durable=False) for at in range(sites)]
        self.states: dict[int, Any] = {}
        self.older: list[tuple[int, Any]] = []  # states before they were used, as a snapshot would keep them
        self.up: list[Up] = []
        self.down: list[Down] = []
        self.archive: list[Up | Down] = []
        self.egress = Egress()
        self.weights: dict[tuple[bytes, int], tuple[int, NDArray[np.float32], float]] = {}
        self.results: list[tuple[Plan, tuple[int, ...], Sum]] = []
        self.refused: Counter[str] = Counter()
        self.server: SumServer | None = None
        self.stage = len(CLOSING)

    def close(self) -> None:
        for journal in self.journals:
            journal.close()

    def begin(self, *, again: bool) -> None:
        """A new plan, of a new model or (`again`) of the one before."""
        self.number += not again
        number = self.number
        plan = replace(
            self.base.plan,
            sequence=self.base.plan.sequence + len(self.archive),
            model=seed("m", number),
            round=number + 1,
        )
        self.case = replace(self.base, plan=plan)
        directory = Directory.decode(self.case.directory)
        self.plan = read_plan(self.case.signed_plan, directory)
        self.roster = Roster.of(self.plan, directory)
        self.server, self.stage = SumServer(self.plan, directory, self.case.signed_plan), 0
        self.states.clear()
        self.up.clear()
        self.down.clear()
        for at in range(len(self.journals)):
            self.attempt(partial(self._advertise, at))

    def _advertise(self, at: int) -> None:
        plan, journal = self.plan, self.journals[at]
        own = rules(plan.study, rounds_allowed=50)
        journal.accept(
            plan.digest, plan.run, plan.kind, plan.sequence, plan.round, plan.roster, plan.model, own
        )
        heads: tuple[Head, Head] = (journal.witness(), NO_HEAD)
        draw = stream(seed(plan.digest.hex(), at))
        name = self.base.seats[at].name
        self.states[at], sent = client.advertise(self.roster, self.identities[at], name, heads, draw)
        self.send(plan.digest, Up("keys", at, sent))

    def send(self, plan_hash: bytes, one: Up) -> None:
        self.egress.left[plan_hash, one.step, one.site] += 1
        self.up.append(one)
        self.archive.append(one)

    def attempt(self, step: Callable[[], None]) -> bool:
        """Take a step. A refusal is an answer; any other exception is a fault of the package."""
        try:
            step()
        except JournalError:
            raise
        except ProtocolAbort as error:
            self.refused[error.code] += 1
            return False
        return True

    def collect(self, one: Up) -> None:
        """The server reads a message."""
        if self.server is not None:
            self.attempt(partial(self._collect, self.server, one))

    def _collect(self, server: SumServer, one: Up) -> None:
        name = self.base.seats[one.site].name
        if one.step == "keys":
            server.collect_keys(name, one.message)
        elif one.step == "shares":
            server.collect_shares(name, one.message)
        elif one.step == "ready":
            server.collect_ready(name, one.message)
        elif one.step == "input":
            assert one.words is not None
            server.add_input(name, one.message, one.words)
        elif one.step == "consistent":
            server.collect_consistent(name, one.message)
        else:
            server.collect_revealed(name, one.message)

    def close_step(self) -> None:
        """The server goes on to the next step with what it has."""
        if self.server is None or self.stage >= len(CLOSING):
            return
        if self.attempt(partial(self._close, self.server, CLOSING[self.stage])):
            self.stage += 1
        else:
            self.server = None

    def _close(self, server: SumServer, step: str) -> None:
        indexes = {seat.name: at for at, seat in enumerate(self.base.seats)}
        if step == "keys":
            message, to, label = server.roster_keys(), server.u1, "roster-keys"
        elif step == "shares":
            for name in server.u2:
                self.relay(Down("deliver", indexes[name], server.deliver_to(name)))
            return
        elif step == "ready":
            for name in server.expect_input():
                self.relay(Down("order", indexes[name], b""))
            return
        elif step == "input":
            message, to, label = server.survivors(), server.u3, "survivors"
        elif step == "consistent":
            message, to, label = server.unmask(), server.u3, "unmask"
        else:
            survivors = tuple(indexes[name] for name in server.u3)
            self.results.append((self.plan, survivors, server.result()))
            self.server = None
            return
        for name in to:
            self.relay(Down(label, indexes[name], message))

    def relay(self, one: Down) -> None:
        self.down.append(one)
        self.archive.append(one)

    def read(self, one: Down, state: Any = None) -> None:
        """A site reads a message, in its state or in one that an adversary brought back."""
        at = one.site
        state = self.states.get(at) if state is None else state
        if state is None:
            return
        self.older.append((at, copy.copy(state)))
        with self._spied(at, state.plan_hash):
            self.attempt(partial(self._answer, one, at, state))

    def _answer(self, one: Down, at: int, state: Any) -> None:
        journal, plan_hash = self.journals[at], state.plan_hash
        after: Any
        if one.step == "roster-keys":
            draw = stream(seed(plan_hash.hex(), at, "deal"))
            after, sent = client.deal(state, one.message, journal, draw)
            self.send(plan_hash, Up("shares", at, sent))
        elif one.step == "deliver":
            after, sent = client.accept(state, one.message)
            self.send(plan_hash, Up("ready", at, sent))
        elif one.step == "order":
            after = self._mask(at, state, journal)
        elif one.step == "survivors":
            after, sent = client.agree(state, one.message, journal)
            self.send(plan_hash, Up("consistent", at, sent))
        else:
            after, sent = client.reveal(state, one.message, journal)
            self.send(plan_hash, Up("revealed", at, sent))
        self.states[at] = after

    def _mask(self, at: int, state: Any, journal: Journal) -> Any:
        plan_hash = state.plan_hash
        weight = 1 + int.from_bytes(seed(plan_hash.hex(), at, "w")[:4], "big") % WEIGHTS
        values = np.array([weight / 200 - at, at / 3, -1.0], dtype=np.float32)
        wide = np.array([weight * 1.5])
        fresh = Secret(seed(plan_hash.hex(), at, "rounding"))
        after, sent, words = client.mask(state, values, weight, wide, fresh, journal)
        self.weights[plan_hash, at] = (weight, values, float(wide[0]))
        self.egress.models[at, state.roster.plan.kind, state.roster.plan.model] += 1
        self.send(plan_hash, Up("input", at, sent, words))
        return after

    @contextmanager
    def _spied(self, at: int, plan_hash: bytes) -> Iterator[None]:
        def spy(key: Secret) -> MaskStream:
            self.egress.keys.setdefault(key.expose(), []).append((plan_hash, at))
            return MaskStream(key)

        with patch.object(client, "MaskStream", spy):
            yield

    def restart(self, at: int) -> None:
        """A site's process ends and begins again: what is not in its journal is lost."""
        self.journals[at].close()
        self.journals[at] = Journal(self.folder / f"{at}.db", durable=False)
        self.states.pop(at, None)

    def copy_disk(self, at: int) -> dict[str, bytes]:
        """A backup of a site's files."""
        self.restart(at)
        self.journals[at].close()
        files = {path.name: path.read_bytes() for path in self.folder.glob(f"{at}.*")}
        self.restart(at)
        return files

    def restore_disk(self, at: int, files: dict[str, bytes]) -> None:
        """The site goes back to a backup, with everything that it knows of itself."""
        self.journals[at].close()
        for path in self.folder.glob(f"{at}.*"):
            path.unlink()
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        self.restart(at)

    def answer(self) -> None:
        """Everything for the sites is delivered in order; their answers wait."""
        for down in [self.down.pop(0) for _ in range(len(self.down))]:
            self.read(down)

    def go_on(self) -> None:
        """Everything is delivered in order, and the server takes its next step."""
        self.answer()
        for up in [self.up.pop(0) for _ in range(len(self.up))]:
            self.collect(up)
        self.close_step()

    def expected(self, plan: Plan, survivors: tuple[int, ...]) -> tuple[int, NDArray[np.float64], float]:
        """Sum of weights, of weighted values and of wide values of the survivors."""
        rows = [self.weights[plan.digest, at] for at in survivors]
        values = sum((row[0] * row[1].astype(np.float64) for row in rows), np.zeros(3))
        return sum(row[0] for row in rows), values, sum(row[2] for row in rows)
