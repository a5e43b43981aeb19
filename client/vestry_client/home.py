"""A site's home folder: its keys, its ledger and its journal with their heads, and its policy.

VestryError
└── HomeError    the folder is not there, or holds a ledger without its key
"""

import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vestry_privacy.durable import create_durably, write_durably
from vestry_privacy.errors import VestryError
from vestry_privacy.identity import SiteIdentity, create_identity, load_identity
from vestry_privacy.ledger import Ledger
from vestry_privacy.ledger_file import default_head
from vestry_privacy.secagg.journal import Journal

if TYPE_CHECKING:
    from vestry_client.policy import SitePolicy

__all__ = ["STARTING_POLICY", "HomeError", "SiteHome", "read_public_key"]

STARTING_POLICY = """\
# What this site allows. Whatever is not written here is refused: as it stands, nothing trains.
# Check it after every change:  vestry-site policy check FILE
version = 1

# What a refusal tells the coordinator: "nothing", "rule" (the rule's name) or "full".
tell_coordinator = "rule"

# allowed_initiators = ["Heart study group, University Hospital"]
# allowed_purposes = ["Predict coronary artery disease from routine data"]
# max_rounds = 100

# The coordinator sees only sums over the sites, of at least this many.
# allow_individual_updates = true lets it see this site's own update.
min_cohort = 5

# A population is the persons who share one budget, whatever files they are in. Take away the "# " of the
# lines below, put your own values in, and register it:  vestry-site population register cardiology
#
# [populations.cardiology]
# unit = "patient"             # who is protected: a person with all their records
# unit_column = "patient_id"   # "row" declares that every row is another person
# persons = 4000               # declared, not counted
# publish_persons = true       # the number is known outside; false needs adjacency = "add-remove"
# max_epsilon_per_study = 1.0
# metrics = []                 # which metrics may leave, noised and charged; [] = none
# expires = 2027-12-31
# approvers = ["Steward of cardiology"]
#
# [populations.cardiology.budget]
# epsilon = 4.0                # the most that a person can ever lose, over all studies
# delta = 1e-6                 # below 1 / persons
# window = "lifetime"          # or two days: [2027-01-01, 2027-12-31]
#
# [datasets.angiography]       # a data set spends from the budget of its persons
# population = "cardiology"
"""


class HomeError(VestryError):
    """A site's folder cannot be used as it is."""


_HEX = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class SiteHome:
    """Where a site keeps what is its own.

    Attributes:
        folder: readable by its owner only.
        head: notes the ledger's newest entry, so that a restored backup is told from the ledger: best on
            another disk; None puts it beside the ledger. The journal's head lies with it.
        patience: seconds to wait for another process that holds the ledger or the journal.
    """

    folder: Path
    head: Path | None = None
    patience: float = 5.0

    @property
    def identity(self) -> Path:
        """The private key."""
        return self.folder / "identity.pem"

    @property
    def public_key(self) -> Path:
        """The public key, 64 hexadecimal digits, for whoever verifies the ledger."""
        return self.folder / "identity.pub"

    @property
    def split_key(self) -> Path:
        """The secret by which persons are held out."""
        return self.folder / "split.key"

    @property
    def ledger(self) -> Path:
        """The ledger's database."""
        return self.folder / "ledger.sqlite"

    @property
    def policy(self) -> Path:
        """The policy file."""
        return self.folder / "policy.toml"

    @property
    def head_file(self) -> Path:
        """Where the ledger's newest entry is noted."""
        return self.head or default_head(self.ledger)

    @property
    def journal(self) -> Path:
        """The journal of secure aggregation: its database."""
        return self.folder / "journal.sqlite"

    @property
    def journal_head(self) -> Path:
        """Where the journal's newest entry is noted."""
        beside = self.head or self.journal
        return beside.with_name(f"{beside.name}.{'head' if self.head is None else 'journal'}")

    @property
    def transcripts(self) -> Path:
        """The folder of the secure sums' signed messages."""
        return self.folder / "transcripts"

    @property
    def directory(self) -> Path:
        """The directory of the sites' identities, as this site has pinned it."""
        return self.folder / "directory.bin"

    def create(self) -> tuple[SiteIdentity, list[Path]]:
        """Make what is not there yet; what is there stays as it is.

        Returns:
            The identity, and the files that were made.

        Raises:
            HomeError: the folder cannot be made, or its ledger has lost its key.
            IdentityError: the key that is there cannot be used.
            LedgerError: the ledger that is there cannot be used.
            JournalError: the journal that is there cannot be used, or was there.
        """
        if self.ledger.exists() and not self.identity.exists():
            raise HomeError(
                f"{self.identity}: is missing beside a ledger that it signs; restore it from a backup. A new "
                "key would make the ledger's entries nobody's"
            )
        made: list[Path] = []
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.policy.exists():
                with self.policy.open("x", encoding="utf-8") as file:
                    file.write(STARTING_POLICY)
                made.append(self.policy)
        except OSError as error:
            raise HomeError(f"{self.folder}: cannot be written ({error.strerror})") from None
        if self.identity.exists():
            identity = load_identity(self.identity)
        else:
            identity = create_identity(self.identity)
            made.append(self.identity)
        if not self.split_key.exists():
            create_durably(self.split_key, f"{secrets.token_hex(32)}\n".encode())
            made.append(self.split_key)
        if not self.ledger.exists():
            made.append(self.ledger)
        with Ledger(self.ledger, identity, head=self.head, patience=self.patience):
            pass
        if not self.journal.exists():
            made.append(self.journal)
        with Journal.open_or_create(self.journal, head=self.journal_head, patience=self.patience):
            pass
        if not self.public_key.exists():
            write_durably(self.public_key, f"{identity.public_key.hex()}\n".encode())
            made.append(self.public_key)
        return identity, made

    def load_identity(self) -> SiteIdentity:
        """The site's key.

        Raises:
            HomeError: there is no site in the folder.
            IdentityError: the key cannot be used.
        """
        if not self.identity.exists():
            raise HomeError(
                f"{self.folder}: there is no site here (no {self.identity.name}); make one with `vestry-site "
                "init`, or name its folder with --home or VESTRY_SITE_HOME"
            )
        return load_identity(self.identity)

    def load_split_key(self) -> bytes:
        """The secret by which persons are held out, 32 bytes: a site's ``Site.secret``.

        Raises:
            HomeError: it is missing or damaged.
        """
        try:
            digits = self.split_key.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            digits = ""
        if not _HEX.fullmatch(digits):
            raise HomeError(
                f"{self.split_key}: is missing or damaged; restore it from a backup. A new one would move "
                "people between training and held-out rows"
            )
        return bytes.fromhex(digits)

    def load_policy(self) -> "SitePolicy":
        """The site's policy.

        Raises:
            PolicyFileError: it is missing or wrong.
        """
        from vestry_client.policy_file import load_policy  # reading a ledger needs no policy

        return load_policy(self.policy)

    def open_ledger(self) -> Ledger:
        """The site's ledger, its chain checked; a context manager.

        Raises:
            HomeError: there is no site in the folder, or it has no ledger.
            IdentityError: the key cannot be used.
            LedgerError: the ledger is locked, read-only, newer, tampered with, or older than its head.
        """
        identity = self.load_identity()
        if not self.ledger.exists():
            raise HomeError(
                f"{self.ledger}: is missing, and with it what was spent; restore it from a backup. A site "
                "that never had one gets it with `vestry-site init`"
            )
        return Ledger(self.ledger, identity, head=self.head, patience=self.patience)

    def open_journal(self) -> Journal:
        """The site's journal of secure aggregation, its chain checked; a context manager.

        Raises:
            JournalError: it is missing, locked, damaged, newer, read-only, or older than its head.
        """
        return Journal(self.journal, head=self.journal_head, patience=self.patience)


def read_public_key(text: str) -> bytes:
    """A public key as an operator gives it: 64 hexadecimal digits, or the file that holds them.

    Returns:
        32 raw bytes.

    Raises:
        HomeError: it is neither.
    """
    digits = text
    if not _HEX.fullmatch(text):
        try:
            digits = Path(text).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise HomeError(
                f"public key '{text}': is neither 64 hexadecimal digits nor a file that can be read"
            ) from None
        if not _HEX.fullmatch(digits):
            raise HomeError(
                f"{text}: does not hold a public key of 64 hexadecimal digits, as identity.pub does"
            )
    return bytes.fromhex(digits)
