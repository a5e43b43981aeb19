"""What a site's journal says of itself, for people and programs. No roster, no run, no model is in it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vestry_privacy.secagg.history import Head, History, Stage

__all__ = ["JournalReport", "Lost", "report_of"]


@dataclass(frozen=True)
class Lost:
    """A loss that an operator has declared.

    Attributes:
        epoch: that began.
        known: entries that were known then; more may have been lost.
        note: what happened.
        time: milliseconds since 1970.
    """

    epoch: int
    known: int
    note: str
    time: int


@dataclass(frozen=True)
class JournalReport:
    """A journal at one moment.

    Attributes:
        head: the newest entry.
        plans: how far plans went -> how many went so far and no further.
        keys: models that this site's masked input has left for, each with its data set and kind.
        repeated: those of them more than once.
        losses: that were declared, oldest first.
        peers: key hash of a site -> its highest journal and ledger heads.
    """

    head: Head
    plans: Mapping[Stage, int]
    keys: int
    repeated: int
    losses: tuple[Lost, ...]
    peers: Mapping[bytes, tuple[Head, Head]]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "head": _plain(self.head),
            "epoch": self.head.epoch,
            "plans": dict(self.plans),
            "consumed_keys": self.keys,
            "repeated_keys": self.repeated,
            "losses": [
                {"epoch": one.epoch, "known": one.known, "note": one.note, "time": one.time}
                for one in self.losses
            ],
            "peers": {
                site.hex(): {"journal": _plain(journal), "ledger": _plain(ledger)}
                for site, (journal, ledger) in sorted(self.peers.items())
            },
        }


def report_of(
    history: History, head: Head, losses: tuple[Lost, ...], peers: Mapping[bytes, tuple[Head, Head]]
) -> JournalReport:
    """Count a history."""
    stages = Counter(history.stages.values())
    order: tuple[Stage, ...] = ("accepted", "consumed", "signed", "revealed")
    times = history.consumed.values()
    return JournalReport(
        head=head,
        plans={stage: stages[stage] for stage in order},
        keys=len(times),
        repeated=sum(count > 1 for count in times),
        losses=losses,
        peers=dict(peers),
    )


def _plain(head: Head) -> dict[str, Any]:
    return {"epoch": head.epoch, "count": head.count, "hash": head.hash.hex()}
