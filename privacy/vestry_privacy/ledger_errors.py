"""Why a ledger refuses.

VestryError
└── LedgerError            the ledger refuses what was asked
    ├── LedgerUnavailable  locked, read-only, on a full disk, no database
    ├── LedgerVersion      written by a newer version
    ├── LedgerTampered     an entry, its hash, its signature or its place is not what was written
    ├── LedgerRollback     older than the newest entry known: a restored backup; or lost its head
    ├── WrongIdentity      signed with another key
    ├── PopulationError    an unknown population, or a change that its steward must ask for
    ├── OverlapError       persons of another population
    ├── BudgetExceeded     the filter, the window or the study's cap leaves no room
    ├── NotHeld            no hold covers what was asked
    ├── DuplicateRound     the round was answered already
    ├── RoundOpen          a running process is on it
    └── ReservationError   no such open reservation of this handle
"""

from vestry_privacy.errors import VestryError

__all__ = [
    "BudgetExceeded",
    "DuplicateRound",
    "LedgerError",
    "LedgerRollback",
    "LedgerTampered",
    "LedgerUnavailable",
    "LedgerVersion",
    "NotHeld",
    "OverlapError",
    "PopulationError",
    "ReservationError",
    "RoundOpen",
    "WrongIdentity",
]


class LedgerError(VestryError):
    """The ledger refuses; nothing was written."""


class LedgerUnavailable(LedgerError):
    """The ledger cannot be read or written; nothing may be computed from data."""


class LedgerVersion(LedgerError):
    """A newer version wrote the ledger."""


class LedgerTampered(LedgerError):
    """The chain does not hold.

    Attributes:
        seq: number of the first entry that does not hold; 0 for the file as a whole.
        broken: ``body``, ``hash``, ``signature``, ``order``, ``gap``, ``meaning``, ``identifiers`` or
            ``file``.
    """

    def __init__(self, seq: int, broken: str, problem: str) -> None:
        self.seq, self.broken = seq, broken
        place = f"entry {seq}" if seq else "file"
        super().__init__(
            f"ledger, {place}, {broken}: {problem}; nothing is granted: restore a backup and reconcile"
        )


class LedgerRollback(LedgerError):
    """Entries that were written are not in the ledger: the budget counts as exhausted."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"ledger: {problem}; the budget counts as exhausted until 'reconcile' charges what was lost"
        )


class WrongIdentity(LedgerError):
    """The ledger is signed with another key."""


class PopulationError(LedgerError):
    """An unknown population, or a change of one."""


class OverlapError(LedgerError):
    """Persons of another population.

    Attributes:
        population: the one that the persons belong to.
    """

    def __init__(self, population: str, message: str) -> None:
        self.population = population
        super().__init__(message)


class BudgetExceeded(LedgerError):
    """No room.

    Attributes:
        population: whose budget.
        rule: ``budget``, ``window`` or ``epsilon_cap``.
        asked: epsilon that would be claimed or spent; None outside a window.
        allowed: epsilon.
    """

    def __init__(self, population: str, rule: str, message: str, asked: float | None, allowed: float) -> None:
        self.population, self.rule, self.asked, self.allowed = population, rule, asked, allowed
        super().__init__(f"population {population!r}, {rule}: {message}")


class NotHeld(LedgerError):
    """No hold covers what was asked."""


class DuplicateRound(LedgerError):
    """The round was answered already and is not charged again.

    Attributes:
        order_hash: of the order that was answered.
        reply_hash: of the answer.
    """

    def __init__(self, message: str, order_hash: str, reply_hash: str) -> None:
        self.order_hash, self.reply_hash = order_hash, reply_hash
        super().__init__(message)


class RoundOpen(LedgerError):
    """A running process has reserved the round and not finished."""


class ReservationError(LedgerError):
    """No such open reservation of this handle."""
