"""A federation in one process: handlers, ledgers and journals of 3 to 5 sites, and a server to lead a sum."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.client.bench import OPEN, make_study, make_table
from tests.client.clinic import make_clinic, make_policy, visits
from vestry_client.handlers import Site, handle
from vestry_client.policy import SitePolicy
from vestry_client.secure import SecureSeat
from vestry_client.site import Bench, make_bench
from vestry_client.state import SiteStates
from vestry_privacy.identity import SiteIdentity, load_or_create_identity
from vestry_privacy.secagg.directory import Directory, Member
from vestry_privacy.secagg.journal import Journal
from vestry_privacy.secagg.messages import sign_plan
from vestry_privacy.secagg.plan import Plan
from vestry_privacy.secagg.server import SumServer
from vestry_privacy.secagg.vector import Sum
from vestry_strategies.orders import (
    EvaluateOrder,
    MaskedReply,
    Refusal,
    Reply,
    SecureOrder,
    SecureReply,
    SecureStep,
    StatisticsOrder,
    TrainOrder,
)
from vestry_strategies.parameters import Vector, model_hash
from vestry_strategies.secure_plan import (
    STATISTICS_WEIGHT_LIMIT,
    SumKind,
    configuration_hash,
    round_plan,
    sum_layout,
)
from vestry_strategies.study import StudySpec
from vestry_strategies.sums import Arrays, Sums

__all__ = ["NAMES", "SECURE", "Federation", "InputOrder", "Lead", "open_federation", "private_federation"]

NAMES = ("north", "south", "west", "east", "middle")
SECURE = ("secure = false", "secure = true")
SECURE_OPEN = OPEN.model_copy(update={"min_cohort": 3, "allow_individual_updates": False})

InputOrder = StatisticsOrder | TrainOrder | EvaluateOrder
Change = Callable[[str, SecureStep, bytes], bytes]


@dataclass
class Lead:
    """One sum as its server sees it.

    Attributes:
        plan: of the sum.
        server: collects.
        said: (site, step) -> what it answered.
        total: the sum; None where there is none.
    """

    plan: Plan
    server: SumServer
    said: dict[tuple[str, str], Reply] = field(default_factory=dict)
    total: Sum | None = None

    @property
    def sum(self) -> Sum:
        """The sum, which must be there."""
        assert self.total is not None
        return self.total

    def refused(self, site: str, step: str) -> Refusal:
        """What a site said, which must be a refusal."""
        found = self.said[site, step]
        assert isinstance(found, Refusal), found
        return found

    def masked(self, site: str) -> MaskedReply:
        """A site's masked reply."""
        found = self.said[site, "input"]
        assert isinstance(found, MaskedReply), found
        return found


@dataclass
class Federation:
    """Sites and a coordinator.

    Attributes:
        sites: by name.
        directory: pinned at all of them.
        coordinator: signs plans.
        study: that is asked of them.
        journals: the folder of the journals.
        stack: closes what is opened later.
        sequence: of the newest plan.
        run: name of the run.
    """

    sites: dict[str, Site]
    directory: Directory
    coordinator: SiteIdentity
    study: StudySpec
    journals: Path
    stack: ExitStack = field(repr=False)
    sequence: int = 0
    run: str = "run"

    @property
    def bench(self) -> Bench:
        """What the handlers make of the study."""
        return make_bench(self.study.to_json(), ())

    def model(self, number: int = 1) -> Vector:
        """A model of the right shape, another one in each round."""
        return np.linspace(-0.1, 0.1 * number, self.bench.flat.layout.size, dtype=np.float32)

    @property
    def preprocessing(self) -> Arrays:
        """Made of no rows."""
        features, blank = self.bench.task.features, self.bench.task.features.blank
        assert blank is not None
        if self.study.privacy is not None and features.fit_released is not None:
            return features.fit_released(self.study, {})
        return features.fit(self.study, features.statistics(self.study, blank(self.study)))

    def order(self, kind: SumKind, number: int = 1, **changes: Any) -> InputOrder:
        """An order for input, without its plan."""
        text = self.study.to_json()
        order: InputOrder = StatisticsOrder(text)
        if kind == "train":
            order = TrainOrder(text, number, number - 1, self.model(number), self.preprocessing)
        elif kind == "evaluate":
            order = EvaluateOrder(text, number, self.model(number), self.preprocessing)
        return replace(order, **changes)

    def plan(self, order: InputOrder, **changes: Any) -> Plan:
        """The next plan, for an order."""
        self.sequence += 1
        kinds: dict[type[InputOrder], SumKind] = {
            StatisticsOrder: "statistics",
            TrainOrder: "train",
            EvaluateOrder: "evaluate",
        }
        kind, layout = kinds[type(order)], self.bench.flat.layout
        shared = order.shared if isinstance(order, TrainOrder) else {}
        model, configuration = self.bench.digest, configuration_hash({}, {})
        if not isinstance(order, StatisticsOrder):
            model, configuration = model_hash(order.model), configuration_hash(order.preprocessing, shared)
        extra = self.bench.strategy.extra(layout.trainable)
        equal = self.study.aggregation.weighting == "equal"
        limits = {"statistics": STATISTICS_WEIGHT_LIMIT, "train": 1 if equal else 200, "evaluate": 1}
        plan = round_plan(
            self.study,
            run=self.run,
            kind=kind,
            round=getattr(order, "round", 0),
            sequence=self.sequence,
            directory=self.directory,
            roster=self.directory.roster(),
            model=bytes.fromhex(model),
            configuration=configuration,
            values=layout.size + extra if kind == "train" else 0,
            wide=sum_layout(self.study, self.bench.task, kind).size,
            weight_limit=limits[kind],
        )
        return replace(plan, **changes)

    def read(self, lead: Lead, kind: SumKind) -> Sums:
        """The named sums of a sum."""
        return sum_layout(self.study, self.bench.task, kind).read(lead.sum.wide)

    def begin(self, plan: Plan, signer: SiteIdentity | None = None) -> Lead:
        """A sum that nobody was asked for yet."""
        signed = sign_plan(plan, self.coordinator if signer is None else signer)
        return Lead(plan, SumServer(plan, self.directory, signed))

    def step(self, lead: Lead, site: str, step: SecureStep, message: bytes) -> Reply:
        """One step at one site."""
        order = SecureOrder(self.study.to_json(), step, lead.plan.digest.hex(), message)
        lead.said[site, step] = reply = handle(self.sites[site], order)
        return reply

    def until_input(self, lead: Lead, lost: Mapping[str, str]) -> tuple[str, ...]:
        """Keys, shares, deliver; the sites that are ready."""
        for name in self.sites:
            if lost.get(name) != "keys":
                self._collect(lead, name, "keys", lead.server.signed_plan, lead.server.collect_keys)
        relayed = lead.server.roster_keys()
        for name in lead.server.u1:
            if lost.get(name) != "shares":
                self._collect(lead, name, "shares", relayed, lead.server.collect_shares)
        for name in lead.server.u2:
            if lost.get(name) != "deliver":
                delivered = lead.server.deliver_to(name)
                self._collect(lead, name, "deliver", delivered, lead.server.collect_ready)
        return lead.server.expect_input()

    def input(self, lead: Lead, name: str, order: InputOrder) -> Reply:
        """A site's masked input, added."""
        asked = replace(order, secure=lead.plan.digest.hex())
        lead.said[name, "input"] = reply = handle(self.sites[name], asked)
        if isinstance(reply, MaskedReply):
            lead.server.add_input(name, reply.header, reply.vector)
        return reply

    def unmask(self, lead: Lead, lost: Mapping[str, str]) -> Sum:
        """Survivors, unmask, result."""
        survivors = lead.server.survivors()
        for name in lead.server.u3:
            if lost.get(name) != "survivors":
                self._collect(lead, name, "survivors", survivors, lead.server.collect_consistent)
        signatures = lead.server.unmask()
        for name in lead.server.u3:
            if lost.get(name) != "unmask" and (name, "survivors") in lead.said:
                self._collect(lead, name, "unmask", signatures, lead.server.collect_revealed)
        lead.total = lead.server.result()
        return lead.total

    def sum(self, order: InputOrder, plan: Plan | None = None, **lost: str) -> Lead:
        """A whole sum; ``lost`` names the step at which a site is away for good."""
        lead = self.begin(self.plan(order) if plan is None else plan)
        for name in self.until_input(lead, lost):
            if lost.get(name) != "input":
                self.input(lead, name, order)
        self.unmask(lead, lost)
        return lead

    def restart(self, name: str) -> None:
        """A new process of a site: what was in memory is gone, what was on the disk is there."""
        old = self.sites[name].secure
        assert old is not None
        old.journal.close()
        journal = self.stack.enter_context(Journal(self.journals / f"{name}.sqlite"))
        self.sites[name] = replace(
            self.sites[name],
            secure=SecureSeat(old.identity, self.directory, journal, transcripts=old.transcripts),
        )

    def _collect(
        self, lead: Lead, name: str, step: SecureStep, message: bytes, take: Callable[[str, bytes], None]
    ) -> None:
        reply = self.step(lead, name, step, message)
        if isinstance(reply, SecureReply):
            take(name, reply.message)


def _identities(
    folder: Path, names: tuple[str, ...]
) -> tuple[dict[str, SiteIdentity], SiteIdentity, Directory]:
    own = {}
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        own[name] = load_or_create_identity(folder / name / "identity.pem")
    coordinator = load_or_create_identity(folder / "coordinator.pem")
    members = [Member(name, f"hospital {name}", one.public_key) for name, one in own.items()]
    return own, coordinator, Directory.of(1, coordinator.public_key, members)


@contextmanager
def open_federation(
    folder: Path,
    *changes: tuple[str, str],
    sites: int = 4,
    policy: SitePolicy = SECURE_OPEN,
    study: StudySpec | None = None,
) -> Iterator[Federation]:
    """Sites without [privacy]; each has rows of its own."""
    torch.set_num_threads(1)
    names = NAMES[:sites]
    own, coordinator, directory = _identities(folder, names)
    with ExitStack() as stack:
        made = {}
        for number, name in enumerate(names):
            table = make_table(40 + 10 * number, seed=number)
            journal = stack.enter_context(Journal.open_or_create(folder / f"{name}.sqlite"))
            seat = SecureSeat(own[name], directory, journal)
            made[name] = Site(
                name,
                lambda study, task, table=table: table,  # type: ignore[misc]
                policy,
                secure=seat,
                states=lambda digest, name=name: SiteStates(folder / name / digest[:16]),  # type: ignore[misc]
            )
        asked = make_study(SECURE, *changes) if study is None else study
        yield Federation(made, directory, coordinator, asked, folder, stack)


@contextmanager
def private_federation(
    folder: Path, study: StudySpec, *, sites: int = 4, policy: SitePolicy | None = None
) -> Iterator[Federation]:
    """Sites with patients, ledgers and a study with [privacy]."""
    names = NAMES[:sites]
    own, coordinator, directory = _identities(folder, names)
    rules = make_policy(allow_individual_updates=False, min_cohort=3) if policy is None else policy
    with ExitStack() as stack:
        made = {}
        for number, name in enumerate(names):
            journal = stack.enter_context(Journal.open_or_create(folder / f"{name}.sqlite"))
            seat = SecureSeat(own[name], directory, journal)
            table = visits(40, 2, seed=number)
            clinic = stack.enter_context(make_clinic(folder / name, table=table, policy=rules, study=study))
            made[name] = replace(clinic.site, name=name, secure=seat)
        yield Federation(made, directory, coordinator, study, folder, stack)
