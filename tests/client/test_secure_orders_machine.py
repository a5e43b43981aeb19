"""Whatever order comes when, and whoever restarts: one message of a step leaves; a sum is right or none."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.client.bench import OPEN
from tests.client.secure_bench import NAMES, InputOrder, Lead, open_federation
from vestry_client.handlers import handle
from vestry_privacy.secagg.errors import ProtocolAbort
from vestry_strategies.orders import MaskedReply, Refusal, Reply, SecureOrder, SecureReply, SecureStep
from vestry_strategies.secure_plan import SumKind

SITES = NAMES[:4]
POLICY = OPEN.model_copy(update={"min_cohort": 3, "allow_repeats_without_privacy": True, "max_repeats": 1000})
site = st.sampled_from(SITES)
place = st.integers(0, 10**6)


class AnyOrder(RuleBasedStateMachine):
    """A coordinator that may do anything, and sites that may restart at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(TemporaryDirectory()))
        self.federation = self.stack.enter_context(open_federation(folder, policy=POLICY))
        self.orders: list[SecureOrder | InputOrder] = []
        self.left: dict[tuple[str, str, str], set[bytes]] = {}
        self.lead: Lead | None = None
        self.asked: InputOrder | None = None
        self.stage = 0

    def teardown(self) -> None:
        self.stack.close()

    def ask(self, name: str, order: SecureOrder | InputOrder) -> Reply:
        reply = handle(self.federation.sites[name], order)
        if isinstance(reply, SecureReply):
            self.left.setdefault((name, reply.plan, reply.step), set()).add(reply.message)
        elif isinstance(reply, MaskedReply):
            content = reply.header + reply.vector.tobytes()
            self.left.setdefault((name, reply.plan, "input"), set()).add(content)
        else:
            assert isinstance(reply, Refusal), "a reply in the clear"
        return reply

    @rule(kind=st.sampled_from(["statistics", "train", "evaluate"]), number=st.integers(1, 4))
    def begin(self, kind: SumKind, number: int) -> None:
        self.asked = self.federation.order(kind, number)
        self.lead, self.stage = self.federation.begin(self.federation.plan(self.asked)), 0

    @precondition(lambda self: self.lead is not None)
    @rule(lost=st.none() | site)
    def go_on(self, lost: str | None) -> None:
        """The next step at all sites that are still in, perhaps but one."""
        assert self.lead is not None
        names = [name for name in SITES if name != lost]
        try:
            (self._keys, self._shares, self._deliver, self._input, self._survivors, self._unmask)[self.stage](
                self.lead, names
            )
            self.stage += 1
        except ProtocolAbort:
            self.lead = None

    @precondition(lambda self: self.lead is not None)
    @rule()
    def finish(self) -> None:
        """All steps that are left, at all sites."""
        while self.lead is not None:
            self.go_on(None)

    def secure(self, lead: Lead, name: str, step: SecureStep, message: bytes) -> bytes | None:
        order = SecureOrder(self.federation.study.to_json(), step, lead.plan.digest.hex(), message)
        self.orders.append(order)
        reply = self.ask(name, order)
        return reply.message if isinstance(reply, SecureReply) else None

    def _keys(self, lead: Lead, names: list[str]) -> None:
        for name in names:
            message = self.secure(lead, name, "keys", lead.server.signed_plan)
            if message is not None:
                lead.server.collect_keys(name, message)

    def _shares(self, lead: Lead, names: list[str]) -> None:
        relayed = lead.server.roster_keys()
        for name in set(lead.server.u1) & set(names):
            message = self.secure(lead, name, "shares", relayed)
            if message is not None:
                lead.server.collect_shares(name, message)

    def _deliver(self, lead: Lead, names: list[str]) -> None:
        for name in lead.server.u2:
            delivered = lead.server.deliver_to(name)
            message = self.secure(lead, name, "deliver", delivered) if name in names else None
            if message is not None:
                lead.server.collect_ready(name, message)

    def _input(self, lead: Lead, names: list[str]) -> None:
        assert self.asked is not None
        order = replace(self.asked, secure=lead.plan.digest.hex())
        self.orders.append(order)
        for name in set(lead.server.expect_input()) & set(names):
            reply = self.ask(name, order)
            if isinstance(reply, MaskedReply):
                lead.server.add_input(name, reply.header, reply.vector)

    def _survivors(self, lead: Lead, names: list[str]) -> None:
        relayed = lead.server.survivors()
        for name in set(lead.server.u3) & set(names):
            message = self.secure(lead, name, "survivors", relayed)
            if message is not None:
                lead.server.collect_consistent(name, message)

    def _unmask(self, lead: Lead, names: list[str]) -> None:
        relayed = lead.server.unmask()
        for name in set(lead.server.u3) & set(names):
            message = self.secure(lead, name, "unmask", relayed)
            if message is not None:
                lead.server.collect_revealed(name, message)
        found, self.lead = lead.server.result(), None
        federation = self.federation
        sites = [federation.sites[name] for name in lead.server.u3]
        rows = [len(one.data(federation.bench).train) for one in sites]
        assert found.weight == (len(rows) if lead.plan.kind == "evaluate" else sum(rows))
        assert np.isfinite(found.wide).all()

    @precondition(lambda self: self.orders)
    @rule(which=place, name=site)
    def replay(self, which: int, name: str) -> None:
        """Any order of any sum again, at any site."""
        self.ask(name, self.orders[which % len(self.orders)])

    @precondition(lambda self: any(isinstance(order, SecureOrder) for order in self.orders))
    @rule(which=place, name=site, where=place, flip=st.integers(1, 255))
    def spoil(self, which: int, name: str, where: int, flip: int) -> None:
        """The same with one byte changed."""
        there = [order for order in self.orders if isinstance(order, SecureOrder)]
        order = there[which % len(there)]
        content = bytearray(order.message)
        content[where % len(content)] ^= flip
        self.ask(name, replace(order, message=bytes(content)))

    @rule(name=site)
    def restart(self, name: str) -> None:
        self.federation.restart(name)

    @invariant()
    def of_each_step_one_message_has_left(self) -> None:
        for (name, _, step), messages in self.left.items():
            assert len(messages) == 1, (name, step)


AnyOrder.TestCase.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
