"""The transcript of a sum: its signed messages, and what a third party can check from them alone.

It proves who took part, that all signatures hold, that every site saw the same keys, dealers and survivors,
that revealed shares are those dealt, and that they make the secrets committed to. It does **not** prove the
sum: the masked vectors are not in it.

    ProtocolAbort
    └── BadMessage, BadSignature, BadShare, BadDealing, Inconsistent, TooFewSites    what does not hold
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vestry_privacy.secagg.client import Revealing
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.encoding import PROTOCOL, Reader, field, field_list, u32, u64
from vestry_privacy.secagg.errors import Inconsistent
from vestry_privacy.secagg.keys import same
from vestry_privacy.secagg.messages import (
    Advertisement,
    Consistent,
    Deal,
    InputHeader,
    Revealed,
    ascending,
    read_plan,
    sites_hash,
    view_hash,
)
from vestry_privacy.secagg.plan import MAX_SITES, Plan, honest_crowd
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.unmasking import check_reveal, check_secret, combine_secrets

__all__ = ["Transcript", "TranscriptReport", "site_transcript", "verify_transcript"]


@dataclass(frozen=True)
class Transcript:
    """Signed messages of one sum, each list in the order of the sites' indexes.

    Attributes:
        directory: of the identities.
        plan: signed.
        keys: of U1.
        deals: of U2; without the sealed shares.
        inputs: of U3; headers only.
        consistent: signatures over the survivors.
        revealed: shares; empty where a site writes what it saw.
        result: (number of sites, sum of weights) as the server has it; None where it is not known.
    """

    directory: Directory
    plan: bytes
    keys: tuple[bytes, ...]
    deals: tuple[bytes, ...]
    inputs: tuple[bytes, ...]
    consistent: tuple[bytes, ...]
    revealed: tuple[bytes, ...] = ()
    result: tuple[int, int] | None = None

    def encode(self) -> bytes:
        """Its bytes, version 1."""
        result = b"" if self.result is None else u32(self.result[0]) + u64(self.result[1])
        lists = (self.keys, self.deals, self.inputs, self.consistent, self.revealed)
        start = field(PROTOCOL) + field(b"transcript") + field(self.directory.encode()) + field(self.plan)
        return start + b"".join(map(field_list, lists)) + field(result)

    @staticmethod
    def decode(content: bytes) -> "Transcript":
        """Read :meth:`encode`.

        Raises:
            BadMessage: it is no transcript, or of another version.
            RosterRefused: its directory is none.
        """
        reader = Reader(content, "transcript")
        version = reader.field()
        if version != PROTOCOL:
            raise reader.wrong("it is of another version; use the Vestry that wrote it")
        if reader.field() != b"transcript":
            raise reader.wrong("it is none")
        directory, plan = Directory.decode(reader.field()), reader.field()
        keys, deals, inputs, consistent, revealed = (tuple(reader.fields(MAX_SITES)) for _ in range(5))
        last = reader.field()
        reader.end()
        result = None
        if last:
            numbers = Reader(last, "transcript")
            result = (numbers.u32(), numbers.u64())
            numbers.end()
        return Transcript(directory, plan, keys, deals, inputs, consistent, revealed, result)


def site_transcript(signed_plan: bytes, directory: Directory, state: Revealing) -> bytes:
    """What a site saw of a sum, once it has given its shares: without the others' and the result."""
    seen = state.seen
    parts = (seen["keys"], seen["deals"], seen["inputs"], seen["consistent"])
    return Transcript(directory, signed_plan, *parts).encode()


@dataclass(frozen=True)
class TranscriptReport:
    """What holds.

    Attributes:
        plan: of the sum.
        directory: fingerprint of the directory in the transcript, to be held against the pinned one.
        roster: names of all seats.
        keys: names of U1.
        dealers: names of U2.
        survivors: names of U3: whose updates are in the sum.
        signed: who signed the survivors.
        revealed: who gave shares.
        sum_of_weights: as the server has it; not proved.
    """

    plan: Plan
    directory: str
    roster: tuple[str, ...]
    keys: tuple[str, ...]
    dealers: tuple[str, ...]
    survivors: tuple[str, ...]
    signed: tuple[str, ...]
    revealed: tuple[str, ...]
    sum_of_weights: int | None

    @property
    def lost(self) -> tuple[str, ...]:
        """Seats whose updates are not in the sum."""
        return tuple(name for name in self.roster if name not in self.survivors)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        plan = self.plan
        return {
            "plan": plan.digest.hex(),
            "study": plan.study.hex(),
            "run": plan.run,
            "kind": plan.kind,
            "round": plan.round,
            "sequence": plan.sequence,
            "threshold": plan.threshold,
            "honest_crowd": honest_crowd(plan.sites),
            "directory": self.directory,
            "roster": list(self.roster),
            "keys": list(self.keys),
            "dealers": list(self.dealers),
            "survivors": list(self.survivors),
            "lost": list(self.lost),
            "signed": list(self.signed),
            "revealed": list(self.revealed),
            "sum_of_weights": self.sum_of_weights,
            "proves_the_sum": False,
        }


def verify_transcript(content: bytes) -> TranscriptReport:
    """Check a transcript from its bytes alone.

    Raises:
        ProtocolAbort: the first thing that does not hold.
    """
    stored = Transcript.decode(content)
    plan = read_plan(stored.plan, stored.directory)
    roster = Roster.of(plan, stored.directory)
    keys = {one.sender: one for one in (Advertisement.read(roster, part) for part in stored.keys)}
    deals = {one.sender: one for one in (Deal.read(roster, part) for part in stored.deals)}
    inputs = {one.sender: one for one in (InputHeader.read(roster, part) for part in stored.inputs)}
    signed = {one.sender: one for one in (Consistent.read(roster, part) for part in stored.consistent)}
    revealed = {
        one.sender: one for one in (Revealed.read(roster, part, len(deals)) for part in stored.revealed)
    }
    for what, found, parts in (
        ("keys", keys, stored.keys),
        ("shares", deals, stored.deals),
        ("masked input", inputs, stored.inputs),
        ("signatures", signed, stored.consistent),
        ("revealed shares", revealed, stored.revealed),
    ):
        if len(found) != len(parts) or not ascending(tuple(found), plan.sites):
            raise Inconsistent(what, "a site stands there twice, or out of order", round=plan.round)
    _check_sets(roster, keys, deals, inputs, signed)
    if stored.revealed:
        _check_secrets(roster, keys, deals, inputs, revealed)
    if stored.result is not None and stored.result[0] != len(inputs):
        raise Inconsistent("result", "it is of another number of sites", round=plan.round)

    def names(indexes: Sequence[int] | dict[int, Any]) -> tuple[str, ...]:
        return tuple(roster.names[index] for index in indexes)

    return TranscriptReport(
        plan, stored.directory.fingerprint, roster.names,
        names(keys), names(deals), names(inputs), names(signed), names(revealed),
        None if stored.result is None else stored.result[1],
    )  # fmt: skip


def _check_sets(
    roster: Roster,
    keys: dict[int, Advertisement],
    deals: dict[int, Deal],
    inputs: dict[int, InputHeader],
    signed: dict[int, Consistent],
) -> None:
    """Each set contains the next, is large enough, and was seen alike by everybody in it."""
    number = roster.plan.round
    roster.require(tuple(keys), "sites with keys")
    roster.require(tuple(deals), "sites with shares")
    roster.require(tuple(inputs), "survivors")
    roster.require(tuple(signed), "signatures")
    if not (set(signed) <= set(inputs) <= set(deals) <= set(keys)):
        raise Inconsistent("sets", "a site is in a later set and not in an earlier one", round=number)
    dealers, view = sites_hash(deals), view_hash(inputs.values())
    for deal in deals.values():
        if deal.holders != tuple(keys):
            raise Inconsistent("keys", "it saw others", round=number, peer=roster.names[deal.sender])
    for one in inputs.values():
        if not same(one.dealers, dealers) or one.words != roster.plan.shape.words:
            raise Inconsistent("dealers", "it saw others", round=number, peer=roster.names[one.sender])
    for agreed in signed.values():
        if not (same(agreed.dealers, dealers) and same(agreed.view, view)):
            raise Inconsistent("survivors", "it saw others", round=number, peer=roster.names[agreed.sender])


def _check_secrets(
    roster: Roster,
    keys: dict[int, Advertisement],
    deals: dict[int, Deal],
    inputs: dict[int, InputHeader],
    revealed: dict[int, Revealed],
) -> None:
    """Every share is what was dealt, and t of them make what the dealer committed to."""
    if not set(revealed) <= set(inputs):
        raise Inconsistent("revealed shares", "are of a site that did not survive", round=roster.plan.round)
    roster.require(tuple(revealed), "sites that unmask")
    for one in revealed.values():
        check_reveal(roster, one, deals, inputs)
    for dealer, secret in combine_secrets(roster, deals, revealed).items():
        check_secret(roster, dealer, secret, keys[dealer], deals[dealer], alive=dealer in inputs)
        secret.wipe()
