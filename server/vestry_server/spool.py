"""A masked vector that arrives in frames: on a disk until it is whole.

So a site that is lost in mid-upload adds nothing, and memory does not grow with the number of uploads.

VestryError
└── SpoolError    a frame is too large, empty or no whole words; the vector is longer or shorter than planned
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vestry_privacy.errors import VestryError

__all__ = ["LARGEST_FRAME", "Spool", "SpoolError"]

LARGEST_FRAME = 4 << 20
"""Bytes of a frame at most."""

_WORD = 8
_PIECE = 1 << 20


class SpoolError(VestryError):
    """A vector in frames is refused."""


class Spool:
    """The words of one site's masked input.

    Args:
        words: that the plan's shape has; known before the first frame.
        folder: for what does not fit into memory; default: the system's.
        memory: bytes kept in memory.

    Guarantees:
        Iterating gives all words or raises, and may be done again, which
        :meth:`~vestry_privacy.secagg.server.SumServer.add_input` needs: it reads once for the digest and once
        to add.
    """

    def __init__(self, words: int, folder: Path | None = None, memory: int = LARGEST_FRAME) -> None:
        self._size = words * _WORD
        self._there = 0
        place = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(max_size=memory, dir=place)  # noqa: SIM115  see close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def whole(self) -> bool:
        """Are all words there?"""
        return self._there == self._size

    def write(self, frame: bytes) -> None:
        """Take the next frame.

        Raises:
            SpoolError: see the module; what is there stays as it was.
        """
        if not frame or len(frame) > LARGEST_FRAME or len(frame) % _WORD:
            raise SpoolError(
                f"frame: {len(frame)} bytes; a frame has 8 to {LARGEST_FRAME} bytes, a multiple of {_WORD}"
            )
        if self._there + len(frame) > self._size:
            raise SpoolError(f"frames: more than the {self._size} bytes that the plan says")
        try:
            self._file.seek(self._there)
            self._file.write(frame)
        except OSError as error:
            raise SpoolError(f"frames: the disk refuses ({error.strerror}); make room") from None
        self._there += len(frame)

    def __iter__(self) -> Iterator[NDArray[np.uint64]]:
        """The words in pieces of at most 1 MiB.

        Raises:
            SpoolError: they are not whole.
        """
        if not self.whole:
            raise SpoolError(f"frames: {self._there} bytes of {self._size}; the upload is not whole")
        place = 0
        while place < self._size:
            self._file.seek(place)
            piece = self._file.read(min(_PIECE, self._size - place))
            place += len(piece)
            yield np.frombuffer(piece, dtype="<u8").astype(np.uint64, copy=False)

    def close(self) -> None:
        """Forget the words."""
        self._file.close()
