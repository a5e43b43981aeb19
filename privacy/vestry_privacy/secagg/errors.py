"""Why a site or the server ends a secure sum.

    VestryError
    └── ProtocolAbort        a rule of vestry-secagg/1 is broken: nothing further of this sum leaves
        ├── PlanRefused      a field of the plan is not what the study, or this site, says
        ├── ValueRefused     what is to be added does not fit the plan
        ├── RosterRefused    the roster is not the pinned one, or too close to an earlier one
        ├── BadMessage       a message cannot be read, or belongs to another sum
        ├── BadSignature     a signature does not hold
        ├── BadKey           two keys are the same, or a shared secret is zero
        ├── BadDealing       a site dealt shares that are not what it committed to
        ├── BadShare         a holder gave a share that is not what was dealt
        ├── Inconsistent     the server told different sites different things
        ├── TooFewSites      fewer sites than the threshold, or fewer organisations than demanded
        ├── Repeated         a round, a model or a step was there before
        ├── WrongStep        a step is out of order, or its secrets are gone
        ├── RolledBack       a journal or ledger is older than one that was seen
        └── JournalError     the site's journal cannot be used

A code is fixed and says no more than the class, so that an answer's size and words tell nothing of a secret.
"""

from typing import ClassVar

from vestry_privacy.errors import VestryError

__all__ = [
    "BadDealing",
    "BadKey",
    "BadMessage",
    "BadShare",
    "BadSignature",
    "Inconsistent",
    "JournalError",
    "PlanRefused",
    "ProtocolAbort",
    "Repeated",
    "RolledBack",
    "RosterRefused",
    "TooFewSites",
    "ValueRefused",
    "WrongStep",
]


class ProtocolAbort(VestryError):
    """A rule of the protocol is broken.

    Args:
        rule: what was checked, a few words.
        message: problem and way out.
        round: of the study, where it is known.
        peer: the site that broke it, where it is known.
    """

    code: ClassVar[str] = "abort"

    def __init__(
        self,
        rule: str,
        message: str,
        *,
        round: int | None = None,  # noqa: A002  the field's word
        peer: str | None = None,
    ) -> None:
        self.rule, self.message, self.round, self.peer = rule, message, round, peer
        where = "" if round is None else f" in round {round}"
        who = "" if peer is None else f", site '{peer}'"
        super().__init__(f"secure aggregation stopped{where}: {rule}{who}: {message}")


class PlanRefused(ProtocolAbort):
    """A field of the plan is refused."""

    code = "plan"


class ValueRefused(ProtocolAbort):
    """What is to be added does not fit the plan."""

    code = "value"


class RosterRefused(ProtocolAbort):
    """The roster is refused."""

    code = "roster"


class BadMessage(ProtocolAbort):
    """A message cannot be read, or belongs to another sum."""

    code = "message"


class BadSignature(ProtocolAbort):
    """A signature does not hold."""

    code = "signature"


class BadKey(ProtocolAbort):
    """Two keys are the same, or a shared secret is zero."""

    code = "key"


class BadDealing(ProtocolAbort):
    """A site dealt shares that are not what it committed to.

    Attributes:
        between: two sites of which one lies, where it cannot be told which; else empty.
    """

    code = "dealing"
    between: tuple[str, ...] = ()


class BadShare(ProtocolAbort):
    """A holder gave a share that is not what was dealt."""

    code = "share"


class Inconsistent(ProtocolAbort):
    """Different sites were told different things."""

    code = "inconsistent"


class TooFewSites(ProtocolAbort):
    """Fewer sites than the threshold, or fewer organisations than demanded."""

    code = "too-few"


class Repeated(ProtocolAbort):
    """A round, a model or a step was there before."""

    code = "repeated"


class WrongStep(ProtocolAbort):
    """A step is out of order, or its secrets are gone."""

    code = "step"


class RolledBack(ProtocolAbort):
    """A journal or ledger is older than one that was seen."""

    code = "rolled-back"


class JournalError(ProtocolAbort):
    """The site's journal cannot be used."""

    code = "journal"
