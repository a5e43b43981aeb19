"""The head file: a journal's newest entry, beside the database, so that a restored copy is told from it.

Two slots of one block each; entry n goes to slot n mod 2, so a write that a crash tears leaves the other. The
file is also the writers' lock: the kernel lets go of it when a process dies.

    ProtocolAbort
    └── JournalError    the file cannot be read or written, is damaged, or is held by another process
"""

import fcntl
import hashlib
import os
import time
from pathlib import Path
from typing import Final

from vestry_privacy.durable import create_durably
from vestry_privacy.secagg.errors import JournalError
from vestry_privacy.secagg.history import NO_HEAD, Head

__all__ = ["SLOT_BYTES", "HeadFile", "default_head"]

SLOT_BYTES: Final = 512
_SLOTS = 2
_WORD = "vestry-journal-head/1"
_PAUSE = 0.002


def default_head(path: Path) -> Path:
    """Where the head lies when nobody says otherwise: beside the database."""
    return path.with_name(f"{path.name}.head")


class HeadFile:
    """One head file, open.

    Args:
        path: of the file, which is there.
        patience: seconds to wait for another process.

    Raises:
        JournalError: it is missing or cannot be written.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self.path, self._patience = path, patience
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise JournalError(
                "journal head",
                f"{path}: cannot be opened for writing ({error.strerror}); give it back to the site",
            ) from None
        found = os.fstat(self._descriptor)
        self._node = (found.st_dev, found.st_ino)

    @staticmethod
    def create(path: Path, head: Head = NO_HEAD) -> None:
        """Make the file; whoever sees it sees all of it.

        Raises:
            FileExistsError: it is there.
            OSError: the disk refuses.
        """
        create_durably(path, _slot(head) * _SLOTS)

    def lock(self) -> None:
        """Hold it against other writers.

        Raises:
            JournalError: another process keeps it, or it was replaced.
        """
        until = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise JournalError(
                        "journal locked",
                        f"{self.path}: another process has held it for {self._patience:g} seconds; wait for "
                        "that process or stop it. Nothing has left this site",
                    ) from None
                time.sleep(_PAUSE)
        try:
            found = self.path.stat()
            same = (found.st_dev, found.st_ino) == self._node
        except OSError:
            same = False
        if not same:
            self.unlock()
            raise JournalError(
                "journal replaced", f"{self.path}: was replaced while it was open; start the site anew"
            )

    def unlock(self) -> None:
        """Let others write."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def read(self) -> Head:
        """The newest entry that was noted.

        Raises:
            JournalError: neither slot holds a head.
        """
        try:
            content = os.pread(self._descriptor, _SLOTS * SLOT_BYTES, 0)
        except OSError as error:
            raise JournalError("journal head", f"{self.path}: cannot be read ({error.strerror})") from None
        heads = [
            head for place in range(_SLOTS) if (head := _read(content[place * SLOT_BYTES :])) is not None
        ]
        if not heads:
            raise JournalError(
                "journal corrupt",
                f"{self.path}: is damaged, so that lost entries cannot be told; restore it, or declare the "
                "loss with `vestry-site journal declare-lost`",
            )
        return max(heads, key=lambda head: (head.epoch, head.count))

    def write(self, head: Head, *, flush: bool) -> None:
        """Note an entry that is on the disk.

        Args:
            head: the entry.
            flush: wait for the disk. A note that a power cut takes back is merely old.

        Raises:
            JournalError: the disk refuses.
        """
        try:
            os.pwrite(self._descriptor, _slot(head), head.count % _SLOTS * SLOT_BYTES)
            if flush:
                os.fsync(self._descriptor)
        except OSError as error:
            raise JournalError(
                "journal head",
                f"{self.path}: cannot be written ({error.strerror}); make room or repair the disk. Nothing "
                "has left this site",
            ) from None

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _slot(head: Head) -> bytes:
    line = f"{_WORD} {head.epoch} {head.count} {head.hash.hex()}"
    summed = f"{line} {hashlib.sha256(line.encode()).hexdigest()}"
    return summed.encode().ljust(SLOT_BYTES - 1) + b"\n"


def _read(content: bytes) -> Head | None:
    try:
        line, _, digest = content[:SLOT_BYTES].decode("ascii").strip().rpartition(" ")
        word, epoch, count, hashed = line.split(" ")
        head = Head(int(epoch), int(count), bytes.fromhex(hashed))
    except ValueError:
        return None
    whole = word == _WORD and hashlib.sha256(line.encode()).hexdigest() == digest  # a checksum, no secret
    return head if whole else None
