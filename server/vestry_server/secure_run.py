"""What the coordinator needs for secure sums over a whole run: who is who, its own key, and what it has seen.

A sum itself is :mod:`vestry_server.secure_sum`; what the coordinator cannot learn from it, and why, stands in
docs/secagg-protocol.md.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vestry_privacy.identity import SiteIdentity
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.plan import MAX_SITES, MIN_SITES, Plan
from vestry_privacy.secagg.server import Heads
from vestry_strategies.study import StudyError, StudySpec

__all__ = ["SecureRun"]


@dataclass
class SecureRun:
    """Secure sums of one run.

    Attributes:
        directory: identities of all sites; its members are the study's roster.
        coordinator: signs plans.
        run_id: name of the run.
        clock: seconds since the epoch.
        transcripts: folder of the sums' transcripts; None keeps none.
        newest: keep so many transcripts; None keeps all.
        heads: highest heads of the sites' journals and ledgers.
        convicted: sites that dealt bad shares in this run, and what they did; they are asked no more.
    """

    directory: Directory
    coordinator: SiteIdentity
    run_id: str
    clock: Callable[[], float] = time.time
    transcripts: Path | None = None
    newest: int | None = None
    heads: Heads = field(default_factory=dict, repr=False)
    convicted: dict[str, str] = field(default_factory=dict)
    _last: int = field(default=0, init=False)

    @property
    def names(self) -> tuple[str, ...]:
        """All sites of the directory, sorted."""
        return tuple(sorted(member.name for member in self.directory.members))

    def check_study(self, study: StudySpec) -> None:
        """Refuse a study that these sites cannot add up securely.

        Raises:
            StudyError: names the number of sites, what is needed, and the ways out.
        """
        count, least = len(self.directory.members), max(MIN_SITES, study.aggregation.min_sites)
        way_out = "or write secure = false: the coordinator then sees each site's own update"
        if count < least:
            raise StudyError(
                f"aggregation.secure: {count} sites; a sum hides one of at least {least} (three, or "
                f"aggregation.min_sites); bring more sites, {way_out}"
            )
        if count > MAX_SITES:
            raise StudyError(
                f"aggregation.secure: {count} sites; at most {MAX_SITES} can add up together; take fewer "
                f"sites, {way_out}"
            )

    def next_sequence(self, last: int) -> int:
        """A sequence number above all earlier ones of the run, also those of sums that a crash forgot.

        Args:
            last: of the checkpoint.
        """
        self._last = max(self._last + 1, last + 1, int(self.clock() * 1000))
        return self._last

    @property
    def sequence(self) -> int:
        """The last one given."""
        return self._last

    def keep_transcript(self, plan: Plan, content: bytes) -> None:
        """Write a sum's transcript, and drop old ones where only some are kept.

        A disk that refuses stops no round: a transcript is for who wants to check, and no state.
        """
        if self.transcripts is None:
            return
        with contextlib.suppress(OSError):
            self.transcripts.mkdir(parents=True, exist_ok=True)
            name = f"{plan.sequence:020d}-{plan.kind}-{plan.round:06d}.transcript"
            (self.transcripts / name).write_bytes(content)
            if self.newest is not None:
                for old in sorted(self.transcripts.glob("*.transcript"))[: -self.newest]:
                    old.unlink(missing_ok=True)
