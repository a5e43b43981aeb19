"""One secure sum over an exchange, top to bottom: the coordinator's side of docs/secagg-protocol.md.

VestryError
├── SumFailed    too few sites are left, or one dealt bad shares: nothing is unmasked, nothing is learnt
└── _Odd         a reply that is not the one asked for; its site is left out
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from vestry_privacy.errors import VestryError
from vestry_privacy.secagg.errors import BadDealing, ProtocolAbort, TooFewSites
from vestry_privacy.secagg.messages import sign_plan
from vestry_privacy.secagg.plan import Plan
from vestry_privacy.secagg.server import SumServer
from vestry_privacy.secagg.vector import Sum
from vestry_server.exchange import Exchange
from vestry_server.secure_run import SecureRun
from vestry_strategies.orders import (
    EvaluateOrder,
    MaskedReply,
    Order,
    Refusal,
    Reply,
    SecureOrder,
    SecureReply,
    SecureStep,
    StatisticsOrder,
    TrainOrder,
)

__all__ = ["PublicPart", "SecureSum", "SumFailed", "SumOrder", "secure_sum"]

_log = logging.getLogger("vestry.secure")
_MOST_EVENTS = 8  # more than a study has kinds of events; each costs seconds to account for
_TOGETHER = 256 << 20
"""Bytes of messages that are sent at once."""

SumOrder = StatisticsOrder | TrainOrder | EvaluateOrder
"""What is computed at the sites and added up."""


@dataclass(frozen=True)
class PublicPart:
    """What a site says beside its masked words: public numbers all of it.

    Attributes:
        spent: as in :class:`~vestry_strategies.orders.MaskedReply`.
        guarantee: as there.
        weight: as there.
    """

    spent: tuple[str, ...] = ()
    guarantee: str = ""
    weight: int | None = None


@dataclass(frozen=True)
class SecureSum:
    """A sum and nothing else of its sites.

    Attributes:
        plan: of the sum.
        total: the sum, decoded.
        sites: whose input is in it, sorted.
        left_out: site of the roster -> why its input is not in it.
        public: what each site of the sum says beside it.
        bytes_up: received, all steps.
        bytes_down: sent, all steps.
    """

    plan: Plan
    total: Sum
    sites: tuple[str, ...]
    left_out: Mapping[str, str]
    public: Mapping[str, PublicPart]
    bytes_up: int
    bytes_down: int


class SumFailed(VestryError):
    """A sum could not be made.

    Attributes:
        left_out: site of the roster -> why it fell out.
    """

    def __init__(self, reason: str, left_out: Mapping[str, str]) -> None:
        self.left_out = dict(sorted(left_out.items()))
        super().__init__(reason)


def secure_sum(exchange: Exchange, secure: SecureRun, study: str, plan: Plan, order: SumOrder) -> SecureSum:
    """One sum.

    Args:
        exchange: how sites are reached.
        secure: of the run.
        study: as JSON.
        plan: of the sum.
        order: what each site computes; its ``secure`` is set here.

    Returns:
        The sum over the sites that lasted to the masked input, and why the others did not.

    Raises:
        SumFailed: too few are left at some step, or a dealer was convicted, who is left out from now on.
        PlanRefused, RosterRefused: the plan is none that a site would take.

    Guarantees:
        A site that refuses, is late or breaks a rule is left out and the sum goes on; nothing is unmasked
        unless the threshold of sites has signed the same survivors. Memory: two vectors, and the one that
        arrives, whatever the number of sites.
    """
    server = SumServer(plan, secure.directory, sign_plan(plan, secure.coordinator), secure.heads)
    talk = _Talk(exchange, plan, study)
    try:
        keyed = talk.ask("keys", talk.there(secure), lambda site: server.signed_plan, server.collect_keys)
        keys = server.roster_keys()
        dealt = talk.ask("shares", keyed, lambda site: keys, server.collect_shares)
        if not dealt:
            raise TooFewSites("sites with shares", "none; nothing is unmasked", round=plan.round)
        talk.ask("deliver", dealt, server.deliver_to, server.collect_ready)
        talk.ask_input(server.expect_input(), replace(order, secure=plan.digest.hex()), server)
        survivors = server.survivors()
        agreed = talk.ask("survivors", server.u3, lambda site: survivors, server.collect_consistent)
        signatures = server.unmask()
        talk.ask("unmask", agreed, lambda site: signatures, server.collect_revealed)
        total = server.result()
    except ProtocolAbort as error:
        talk.blame(secure, error)
        raise SumFailed(str(error), talk.left_out) from None
    if total.weight > total.sites * plan.weight_limit:
        raise SumFailed("the sum of weights is larger than weights can be: a site has sent another", {})
    secure.keep_transcript(plan, server.transcript())
    sites = tuple(sorted(server.u3))
    for site in set(talk.left_out).intersection(sites):
        _log.warning("round %d: lost after its input: %s: %s", plan.round, site, talk.left_out.pop(site))
    left_out = dict(sorted(talk.left_out.items()))
    return SecureSum(plan, total, sites, left_out, talk.public, talk.bytes_up, talk.bytes_down)


@dataclass
class _Talk:
    """Orders out, replies in, and who fell out on the way."""

    exchange: Exchange
    plan: Plan
    study: str
    left_out: dict[str, str] = field(default_factory=dict)
    public: dict[str, PublicPart] = field(default_factory=dict)
    accused: dict[str, set[str]] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0

    def blame(self, secure: SecureRun, error: ProtocolAbort) -> None:
        """What the run remembers of a sum that failed."""
        if isinstance(error, BadDealing) and error.peer is not None:
            secure.convicted[error.peer] = f"convicted in this run: {error.rule}: {error.message}"
            self.left_out[error.peer] = str(error)
        elif isinstance(error, BadDealing) and error.between:
            secure.dispute(error.between, str(error))
        for site, accusers in self.accused.items():
            secure.accuse(site, len(accusers), "the others remember newer books of it")

    def there(self, secure: SecureRun) -> tuple[str, ...]:
        """Sites of the roster that can be asked; the others are left out."""
        seats = sorted(secure.directory.member(entry).name for entry in self.plan.roster)
        connected, without = set(self.exchange.sites()), secure.left_out()
        for site in seats:
            if site in without:
                self.left_out[site] = without[site]
            elif site not in connected:
                self.left_out[site] = "is not connected"
        return tuple(site for site in seats if site not in self.left_out)

    def ask(
        self,
        step: SecureStep,
        sites: Iterable[str],
        message: Callable[[str], bytes],
        collect: Callable[[str, bytes], None],
    ) -> tuple[str, ...]:
        """One step with each site.

        Returns:
            Those whose reply was collected.

        Raises:
            BadDealing: a complaint; the sum is over.
            TooFewSites: ``message`` closes the step before, and too few are left.
        """
        name = self.plan.digest.hex()

        def take(reply: Reply) -> None:
            if not isinstance(reply, SecureReply) or (reply.step, reply.plan) != (step, name):
                raise _Odd(f"an unexpected {type(reply).__name__}")
            if not isinstance(reply.message, bytes):
                raise _Odd("its message is no bytes")
            self.bytes_up += len(reply.message)
            collect(reply.site, reply.message)

        good: list[str] = []
        for some in _groups((site, message(site)) for site in sites):
            orders = {site: SecureOrder(self.study, step, name, content) for site, content in some}
            self.bytes_down += sum(len(content) for _, content in some)
            good += self._collect(orders, take, judged=step == "deliver")
        return tuple(sorted(good))

    def ask_input(self, sites: tuple[str, ...], order: SumOrder, server: SumServer) -> None:
        """The step in which sites compute: masked words are added as they arrive."""
        self.bytes_down += len(sites) * getattr(getattr(order, "model", None), "nbytes", 0)

        def take(reply: Reply) -> None:
            if not isinstance(reply, MaskedReply) or reply.plan != order.secure:
                raise _Odd(f"an unexpected {type(reply).__name__}")
            if reply.round != self.plan.round or not _is_words(reply.vector):
                raise _Odd("its masked input is of another round or type")
            if not isinstance(reply.header, bytes):
                raise _Odd("its header is no bytes")
            self.bytes_up += len(reply.header) + reply.vector.nbytes
            server.add_input(reply.site, reply.header, reply.vector)
            weight = reply.weight if isinstance(reply.weight, int) else None
            spent = tuple(map(str, reply.spent)) if len(reply.spent) <= _MOST_EVENTS else ()
            self.public[reply.site] = PublicPart(spent, str(reply.guarantee), weight)

        self._collect(dict.fromkeys(sites, order), take)

    def _collect(
        self, orders: Mapping[str, Order], take: Callable[[Reply], None], *, judged: bool = False
    ) -> list[str]:
        waiting = dict.fromkeys(orders, "no reply before the deadline")
        good: list[str] = []
        for reply in self.exchange.send(orders, self.plan.deadline):
            site = reply.site
            if site not in waiting:
                continue  # nobody asked, or a second reply
            del waiting[site]
            try:
                if isinstance(reply, Refusal):
                    if reply.peer:
                        self.accused.setdefault(reply.peer, set()).add(site)
                    raise _Odd(f"{reply.code}: {reply.message}")
                take(reply)
            except ProtocolAbort as error:
                if judged and isinstance(error, BadDealing):
                    raise
                self.left_out[site] = str(error)
            except _Odd as error:
                self.left_out[site] = str(error)
            else:
                good.append(site)
        self.left_out.update(waiting)
        return good


def _groups(messages: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Messages in groups whose distinct contents fit into memory beside each other.

    Of 200 sites each gets shares of 6 MB that are made for it alone; smaller federations are one group.
    """
    group: list[tuple[str, bytes]] = []
    size, last = 0, b""
    for site, content in messages:
        if content is not last and size + len(content) > _TOGETHER and group:
            yield group
            group, size = [], 0
        size += 0 if content is last else len(content)
        group.append((site, content))
        last = content
    if group:
        yield group


def _is_words(vector: object) -> bool:
    return isinstance(vector, np.ndarray) and vector.dtype == np.uint64 and vector.ndim == 1


class _Odd(VestryError):
    """A reply that is not the one asked for."""
