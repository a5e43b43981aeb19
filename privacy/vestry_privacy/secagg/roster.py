"""The sites of a plan as a directory knows them: whose signature counts, and how many are enough.

ProtocolAbort
├── RosterRefused    the roster names a site that this directory does not know, or an organisation twice
├── BadSignature     a signature does not hold
├── BadMessage       a message is of another sum, or of no site of the roster
└── TooFewSites      fewer sites than the threshold, or fewer organisations than demanded
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from vestry_privacy.identity import IdentityError, SiteIdentity, verify_signature
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.encoding import Reader, field, read_header
from vestry_privacy.secagg.errors import BadSignature, RolledBack, RosterRefused, TooFewSites
from vestry_privacy.secagg.plan import Plan

__all__ = ["Roster"]

_SIGNATURE_BYTES = 64
_TAIL = 4 + _SIGNATURE_BYTES


@dataclass(frozen=True)
class Roster:
    """The sites of a plan as a directory knows them.

    Attributes:
        plan: the plan.
        names: by index.
        organisations: by index.
        keys: Ed25519 public keys, by index.
    """

    plan: Plan
    names: tuple[str, ...]
    organisations: tuple[str, ...]
    keys: tuple[bytes, ...]

    @staticmethod
    def of(plan: Plan, directory: Directory) -> "Roster":
        """Look every seat up.

        Raises:
            RosterRefused: another directory, an unknown key, or an organisation with two seats.
        """
        if plan.directory != directory.version:
            raise RosterRefused(
                "directory version",
                f"the plan has {plan.directory}, this side has {directory.version}; bring both to one",
                round=plan.round,
            )
        members = [directory.member(entry) for entry in plan.roster]
        organisations = tuple(member.organisation for member in members)
        for member in members:
            if organisations.count(member.organisation) > 1:
                raise RosterRefused(
                    "one seat per organisation",
                    f"'{member.organisation}' has several; one who holds many seats could outvote the others",
                    round=plan.round,
                )
        return Roster(
            plan,
            tuple(member.name for member in members),
            organisations,
            tuple(member.public_key for member in members),
        )

    @cached_property
    def plan_hash(self) -> bytes:
        """Of the plan."""
        return self.plan.digest

    def name(self, index: int) -> str | None:
        """A site's name; None for the server or a number that is no site's."""
        return self.names[index] if index < len(self.names) else None

    def index(self, name: str) -> int:
        """A site's index.

        Raises:
            RosterRefused: it has no seat.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise RosterRefused(
                "roster", "has no seat in this sum", round=self.plan.round, peer=name
            ) from None

    def by_name(self, error: RolledBack) -> RolledBack:
        """The same error with the site's name: a journal knows key hashes only."""
        named = {entry.hex(): name for entry, name in zip(self.plan.roster, self.names, strict=True)}
        peer = named.get(error.peer or "", error.peer)
        return RolledBack(error.rule, error.message, round=self.plan.round, peer=peer)

    def require(self, sites: Sequence[int], what: str) -> None:
        """At least t sites, and organisations enough.

        Raises:
            TooFewSites: there are fewer.
        """
        plan = self.plan
        organisations = len({self.organisations[index] for index in sites})
        if len(sites) < plan.threshold or organisations < plan.least:
            raise TooFewSites(
                what,
                f"{len(sites)} sites, {organisations} organisations; needed are {plan.threshold} of the "
                f"{plan.sites} sites and {plan.least} organisations; nothing is unmasked",
                round=plan.round,
            )

    def sign(self, identity: SiteIdentity, body: bytes) -> bytes:
        """A signed message."""
        return body + field(identity.sign(body))

    def open(self, content: bytes, kind: str) -> tuple[Reader, int]:
        """Check a signed message.

        Returns:
            A reader behind the header, whose end is the body's end, and the sender's index.

        Raises:
            BadMessage: it cannot be read, or is of another sum or of no site of the roster.
            BadSignature: the signature does not hold.
        """
        body, tail = content[:-_TAIL], Reader(content[-_TAIL:], kind)
        reader = Reader(body, kind)
        sender = read_header(reader, kind, self.plan_hash)
        if sender >= len(self.keys):
            raise reader.wrong("its sender has no seat in this sum")
        signature = tail.field(_SIGNATURE_BYTES)
        try:
            verify_signature(self.keys[sender], body, signature)
        except IdentityError:
            raise BadSignature(
                f"signature of {kind}", "does not hold", round=self.plan.round, peer=self.names[sender]
            ) from None
        return reader, sender
