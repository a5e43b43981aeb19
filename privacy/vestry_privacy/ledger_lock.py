"""Who may write, and who is still alive: locks that the kernel lets go of when a process dies.

``flock`` locks belong to an open file, so a killed process holds none, and two handles of one process
exclude each other like two processes.
"""

import contextlib
import fcntl
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from vestry_privacy.ledger_errors import LedgerUnavailable

__all__ = ["OwnerMark", "is_alive", "only_writer"]

_PAUSE = 0.002


@contextlib.contextmanager
def only_writer(path: Path, patience: float) -> Iterator[None]:
    """Hold the writers' lock of a ledger.

    Args:
        path: the lock's file; made where there is none.
        patience: seconds to wait.

    Raises:
        LedgerUnavailable: another process keeps the lock, or the file cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerUnavailable(
            f"ledger lock {path}: cannot be opened ({error.strerror}); its folder must exist and be writable"
        ) from None
    try:
        _wait(descriptor, path, patience)
        with contextlib.suppress(OSError):  # a full disk must not keep a reader out; the name is a courtesy
            os.pwrite(descriptor, f"{os.getpid():<12d}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int, path: Path, patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                holder = os.pread(descriptor, 12, 0).decode("ascii", "replace").strip() or "unknown"
                raise LedgerUnavailable(
                    f"ledger lock {path}: process {holder} has held it for {patience:g} seconds; wait for "
                    "that process or stop it"
                ) from None
            time.sleep(_PAUSE)
        else:
            return


class OwnerMark:
    """A handle's sign of life: a locked file, named by a random owner number that is never used again.

    Args:
        folder: of the marks; made where there is none.

    Raises:
        LedgerUnavailable: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.owner = os.urandom(16).hex()
        self._path, self._process = folder / self.owner, os.getpid()
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerUnavailable(
                f"ledger owner {self._path}: cannot be written ({error.strerror})"
            ) from None
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._descriptor = descriptor
        self._let_go = weakref.finalize(self, os.close, descriptor)

    def close(self) -> None:
        """The handle is gone; what it left open is spent."""
        if os.getpid() == self._process:  # a forked copy must not remove its parent's sign of life
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        self._let_go()


def is_alive(folder: Path, owner: str) -> bool:
    """Does an owner still hold its mark?

    A dead owner's file is removed; a missing file is a dead owner, which charges in full.
    """
    path = folder / owner
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
