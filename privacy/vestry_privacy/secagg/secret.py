"""Bytes that must not be seen: keys and seeds of one sum."""

from collections.abc import Callable
from typing import NoReturn

from vestry_privacy.secagg.errors import WrongStep

__all__ = ["Entropy", "Secret"]

_REFUSED = "a Secret cannot be compared, hashed, copied or pickled; expose it where it is used"

Entropy = Callable[[int], bytes]
"""So many random bytes: ``os.urandom``, or a seeded source for test vectors and simulations."""


class Secret:
    """Bytes of one secret.

    Args:
        data: copied.

    Guarantees:
        No repr shows the content, and no copy, pickle or comparison is possible, so it reaches no log and no
        other process by accident. Wiping is best effort: Python may have made copies, and does so in
        :meth:`expose`.
    """

    __slots__ = ("_data", "_wiped")

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = bytearray(data)
        self._wiped = False

    def expose(self) -> bytes:
        """The content.

        Raises:
            WrongStep: it was wiped.
        """
        if self._wiped:
            raise WrongStep("secret", "it was used up or wiped; a sum goes on, or ends, and is never resumed")
        return bytes(self._data)

    def wipe(self) -> None:
        """Overwrite the content; it cannot be exposed any more."""
        self._wiped = True
        self._data[:] = bytes(len(self._data))

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"Secret({len(self._data)} bytes)"

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError(_REFUSED)

    def __hash__(self) -> NoReturn:
        raise TypeError(_REFUSED)

    def __copy__(self) -> NoReturn:
        raise TypeError(_REFUSED)

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError(_REFUSED)

    def __reduce__(self) -> NoReturn:
        raise TypeError(_REFUSED)
