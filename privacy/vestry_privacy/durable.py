"""Files that a crash leaves old or new, never half, and that are on the disk when a call returns.

A rename is atomic, but neither it nor the content is durable until the file and its folder are flushed
(Pillai et al., OSDI 2014, "All File Systems Are Not Created Equal").
"""

import contextlib
import os
from pathlib import Path

__all__ = ["create_durably", "swap_in", "sync_folder", "write_beside", "write_durably"]


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file's content.

    Raises:
        OSError: the disk refuses; ``path`` is as it was.
    """
    swap_in(write_beside(path, content), path)


def write_beside(path: Path, content: bytes) -> Path:
    """First half of :func:`write_durably`: everything that a full disk can refuse.

    One writer at a time: the temporary name is fixed, so that a crash leaves at most one such file.

    Returns:
        A flushed file in the same folder, for :func:`swap_in`.

    Raises:
        OSError: the disk refuses; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        _write(temporary, content, os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return temporary


def swap_in(temporary: Path, path: Path) -> None:
    """Second half of :func:`write_durably`: the rename.

    Raises:
        OSError: the rename failed, ``path`` is as it was and ``temporary`` gone; or the folder could not be
            flushed, then ``path`` is new but might be old again after a power cut.
    """
    try:
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Create a file that must not exist yet; whoever sees it sees all of it.

    Args:
        path: the file.
        content: all of it.
        mode: permissions, from the first moment on.

    Raises:
        FileExistsError: it exists; it is as it was.
        OSError: the disk refuses; there is no such file.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        _write(temporary, content, os.O_CREAT | os.O_EXCL, mode)
        os.link(temporary, path)  # unlike a rename, it refuses to replace
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: the disk refuses.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes, flags: int, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | flags, mode)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no path
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
