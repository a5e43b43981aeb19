"""Secure aggregation of virtual sites: identities, a directory pinned at each, a journal on the disk.

A virtual site has keys, secrets and a journal like a real one. Four things are a simulation's: identities are
made with the run and bring their own directory; rounding is seeded, so that a run's result does not depend on
the number of workers or on a resume (sums of whole numbers do not either); a round lost by a crash may be
repeated as often as needed; and journals do not wait for the disk, so a killed process loses nothing, but a
power cut may cost the run.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vestry_privacy.canonical import canonical_hash
from vestry_privacy.identity import load_identity, load_or_create_identity
from vestry_privacy.secagg.directory import Directory, Member
from vestry_privacy.secagg.plan import MAX_SITES, MIN_SITES
from vestry_privacy.secagg.secret import Secret
from vestry_server.secure_run import SecureRun
from vestry_simulations.partition import SimulationError
from vestry_strategies.study import StudySpec

if TYPE_CHECKING:
    from vestry_client.secure import SecureSeat

__all__ = ["SeatPlan", "check_sites", "make_directory", "make_secure_run", "open_seat", "secure_rules"]

_IDENTITY, _JOURNAL = "identity.pem", "journal.sqlite"
_COORDINATOR, _DIRECTORY = "coordinator.pem", "directory.bin"
_ALL_TRANSCRIPTS, _NEWEST = 50, 20
_REPEATS = 1_000_000


@dataclass(frozen=True)
class SeatPlan:
    """A virtual site's part of secure sums, as it is sent to its worker.

    Attributes:
        directory: pinned at the site.
        seed: of the study, for the rounding.
    """

    directory: Directory
    seed: int


def check_sites(study: StudySpec, count: int) -> None:
    """Refuse a number of sites that cannot aggregate securely, before anything is made.

    Raises:
        SimulationError: names the number and the ways out.
    """
    if not study.aggregation.secure or MIN_SITES <= count <= MAX_SITES:
        return
    way_out = "or write secure = false in [aggregation]: the coordinator then sees each site's own update"
    if count < MIN_SITES:
        raise SimulationError(
            f"sites: {count}; secure aggregation adds up at least {MIN_SITES}; deal the rows to more sites, "
            f"{way_out}"
        )
    raise SimulationError(
        f"sites: {count}; secure aggregation adds up at most {MAX_SITES}; deal the rows to fewer sites, "
        f"{way_out}"
    )


def secure_rules(study: StudySpec) -> dict[str, Any]:
    """Rules of a virtual site: repeats after a crash, any cohort, no update in the clear unless asked for."""
    return {
        "allow_individual_updates": not study.aggregation.secure,
        "min_cohort": MIN_SITES,
        "roster_change": 1,
        "max_repeats": _REPEATS,
        "allow_repeats_without_privacy": True,
        "max_colluding_sites": 0,
    }


def _place(sites: Path, name: str) -> Path:
    return sites / quote(name, safe="")


def make_directory(folder: Path, names: Iterable[str]) -> Directory:
    """Identities of coordinator and sites in a run's folder, made where there are none; and who is who.

    Args:
        folder: of the run; it exists.
        names: of all sites.

    Raises:
        IdentityError: a key cannot be read or written.
    """
    coordinator = load_or_create_identity(folder / _COORDINATOR)
    members = []
    for name in names:
        place = _place(folder / "sites", name)
        place.mkdir(parents=True, exist_ok=True)
        key = load_or_create_identity(place / _IDENTITY).public_key
        members.append(Member(name, name, key))
    directory = Directory.of(1, coordinator.public_key, members)
    (folder / _DIRECTORY).write_bytes(directory.encode())
    return directory


def make_secure_run(folder: Path, run_id: str, directory: Directory, clock: Callable[[], float]) -> SecureRun:
    """The coordinator's part of a run.

    Raises:
        IdentityError: its key cannot be read.
    """
    return SecureRun(
        directory,
        load_identity(folder / _COORDINATOR),
        run_id,
        clock,
        transcripts=folder / "transcripts",
        newest=None if len(directory.members) <= _ALL_TRANSCRIPTS else _NEWEST,
    )


def open_seat(plan: SeatPlan, name: str, place: Path) -> "SecureSeat":
    """A virtual site's seat, in the process that works for it.

    Args:
        plan: of the seat.
        name: of the site.
        place: its folder.

    Raises:
        IdentityError: its key cannot be read.
        JournalError: its journal cannot be opened.
    """
    from vestry_client.secure import SecureSeat
    from vestry_privacy.secagg.journal import Journal

    def rounding(kind: str, number: int) -> Secret:
        label = canonical_hash("vestry-simulated-rounding/1", [plan.seed, name, kind, number])
        return Secret(hashlib.sha256(bytes.fromhex(label)).digest())

    journal = Journal.open_or_create(place / _JOURNAL, durable=False)
    return SecureSeat(load_identity(place / _IDENTITY), plan.directory, journal, rounding=rounding)
