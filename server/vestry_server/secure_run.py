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
from vestry_privacy.secagg.plan import MAX_SITES, MIN_SITES, Plan, most_colluders
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
        convicted: sites that broke the protocol in this run, and how; they are asked no more.
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
    _aside: dict[str, str] = field(default_factory=dict, init=False)
    _accused: set[str] = field(default_factory=set, init=False)
    _disputes: list[frozenset[str]] = field(default_factory=list, init=False)

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

    def accuse(self, site: str, accusers: int, reason: str) -> None:
        """Other sites would not add up with a site whose books are older than they were.

        More of them than may collude are believed: the site is left out of the next attempt, since its head
        may have been overtaken by a sum of another study; the second time of the rest of the run.

        Args:
            site: that they name.
            accusers: how many.
            reason: what they say.
        """
        if accusers <= most_colluders(len(self.directory.members)):
            return
        if site in self._accused:
            self.convicted[site] = f"convicted in this run: {reason}"
        self._accused.add(site)
        self._aside[site] = f"left out of this attempt: {reason}"

    def dispute(self, sites: tuple[str, ...], reason: str) -> None:
        """Two sites contradict each other, and one of them lies.

        Who disputes with more others than may collude is it. Where the same two come again, neither is asked
        any more.

        Args:
            sites: the two.
            reason: what it is about.
        """
        pair, most = frozenset(sites), most_colluders(len(self.directory.members))
        again = pair in self._disputes
        self._disputes.append(pair)
        for site in sites:
            if again or len({other for other in self._disputes if site in other}) > most:
                self.convicted[site] = f"convicted in this run: {reason}"

    def left_out(self) -> dict[str, str]:
        """Who is not asked in the next attempt, and why; asking for it begins the attempt."""
        found, self._aside = {**self._aside, **self.convicted}, {}
        return found

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
