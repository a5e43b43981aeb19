"""This site's seat in secure sums, and the secrets of those that are under way, in memory only.

A site that restarts has lost them and counts as a drop-out of the sum. Of each study the newest sum is kept:
a newer plan forgets the older one.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from vestry_privacy.identity import SiteIdentity
from vestry_privacy.secagg.client import Advertised, Agreed, Dealt, Masked, Ready, Revealing
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.errors import WrongStep
from vestry_privacy.secagg.plan import Plan
from vestry_privacy.secagg.secret import Entropy, Secret
from vestry_privacy.secagg.transcript import site_transcript
from vestry_strategies.orders import MaskedReply, SecureReply

if TYPE_CHECKING:
    from vestry_privacy.secagg.journal import Journal

__all__ = ["LiveSum", "SecureSeat", "SumState", "fresh_rounding"]

_log = logging.getLogger("vestry.site")

SumState = Advertised | Dealt | Ready | Masked | Agreed | Revealing

_SEED_BYTES = 32

State = TypeVar("State", bound=SumState)


def fresh_rounding(kind: str, round_number: int) -> Secret:
    """A seed of the rounding that nobody can foretell."""
    return Secret(os.urandom(_SEED_BYTES))


@dataclass
class LiveSum:
    """One secure sum under way at this site.

    Attributes:
        plan: that the site has checked and its journal has accepted.
        signed: the plan with the coordinator's signature.
        state: after the newest step; None once a step went wrong, and then nothing further leaves.
        asked: what tells the newest order from others.
        answer: to it; a duplicate gets the same bytes.
    """

    plan: Plan
    signed: bytes = field(repr=False)
    state: SumState | None = field(repr=False)
    asked: tuple[str, str]
    answer: SecureReply | MaskedReply = field(repr=False)

    def again(self, asked: tuple[str, str]) -> SecureReply | MaskedReply | None:
        """The answer to the newest order, if this is a duplicate of it."""
        return self.answer if asked == self.asked else None

    def take(self, kind: type[State]) -> State:
        """Take the state for the step that follows it; the sum ends here unless :meth:`put` is called.

        Raises:
            WrongStep: see :meth:`require`; the state stands then.
        """
        found, self.state = self.require(kind), None
        return found

    def require(self, kind: type[State]) -> State:
        """The state, which must be of the step before.

        Raises:
            WrongStep: the sum is at another step, or has ended at this site.
        """
        if self.state is None:
            raise WrongStep(
                "order of steps", "a step of this sum went wrong here, so nothing more of it leaves",
                round=self.plan.round,
            )  # fmt: skip
        if not isinstance(self.state, kind):
            at = type(self.state).__name__.lower()
            raise WrongStep(
                "order of steps", f"this site is at '{at}'; a sum's steps go one way", round=self.plan.round
            )
        return self.state

    def put(self, state: SumState | None, asked: tuple[str, str], answer: SecureReply | MaskedReply) -> None:
        """Keep the state after a step, and its answer; None where the sum ends with that answer."""
        self.state, self.asked, self.answer = state, asked, answer

    def __reduce__(self) -> NoReturn:
        raise TypeError("the secrets of a sum cannot be copied or pickled; they live and die in one process")


@dataclass
class SecureSeat:
    """What a site brings to secure sums.

    Attributes:
        identity: signs its messages.
        directory: pinned at the site, its fingerprint compared out of band.
        journal: what this site has signed and sent, on the disk.
        entropy: of keys and shares.
        rounding: (kind of sum, round) -> 32 secret bytes for the rounding. The default is fresh; a seeded one
            makes a simulation repeatable, and the rounding hides nothing by itself.
        transcripts: folder in which the site keeps the signed messages that it saw; None keeps none.
    """

    identity: SiteIdentity
    directory: Directory
    journal: "Journal"
    entropy: Entropy = os.urandom
    rounding: Callable[[str, int], Secret] = fresh_rounding
    transcripts: Path | None = None
    _live: dict[bytes, LiveSum] = field(default_factory=dict, init=False, repr=False)

    def open(self, live: LiveSum) -> None:
        """Keep a new sum in place of the older one of its study."""
        self._live[live.plan.study] = live

    def find(self, plan_hash: str) -> LiveSum | None:
        """The sum with a plan's hash, if it is the newest of its study in this process."""
        return next((live for live in self._live.values() if live.plan.digest.hex() == plan_hash), None)

    def live(self, plan_hash: str) -> LiveSum:
        """The same.

        Raises:
            WrongStep: a newer sum took its place, or the site has restarted since.
        """
        found = self.find(plan_hash)
        if found is None:
            raise WrongStep(
                "unknown plan",
                "this site no longer has the secrets of that round; it takes part again in the next one",
            )
        return found

    def keep_transcript(self, live: LiveSum, state: Revealing) -> None:
        """Write the signed messages that this site saw, once its shares have left.

        A disk that refuses stops no sum: a transcript is for whoever wants to check, and no state.
        """
        if self.transcripts is None:
            return
        plan = live.plan
        name = f"{plan.sequence:020d}-{plan.kind}-{plan.round:06d}-{plan.digest.hex()[:16]}.transcript"
        try:
            self.transcripts.mkdir(parents=True, exist_ok=True)
            content = site_transcript(live.signed, self.directory, state)
            (self.transcripts / name).write_bytes(content)
        except OSError as error:
            _log.warning("no transcript of round %d was kept (%s)", plan.round, error.strerror)

    def forget(self, study: bytes) -> None:
        """Drop what is kept of a study."""
        self._live.pop(study, None)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecureSeat cannot be copied or pickled; it belongs to one process of its site")
