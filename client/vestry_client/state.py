"""A site's own arrays between rounds (optimizer moments, a strategy's control variates).

They never leave the site. One file a round, written before the update is handed over; the state of a
round that the coordinator did not keep is passed over when the round is tried again, so a resumed run
sees what an uninterrupted one saw.

    VestryError
    └── SiteStateError    the site's disk refuses
"""

import json
from pathlib import Path

import numpy as np

from vestry_privacy.errors import VestryError
from vestry_strategies.files import write_atomically
from vestry_strategies.sums import Arrays

__all__ = ["SiteStateError", "SiteStates"]


class SiteStateError(VestryError):
    """The site's disk refuses."""


class SiteStates:
    """The states of one site in one study, by round.

    Args:
        folder: where files are kept; None keeps them in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._memory: dict[int, Arrays] = {}

    def before(self, round_number: int) -> Arrays:
        """The newest state of a round before ``round_number``; empty if there is none."""
        earlier = [number for number in self._rounds() if number < round_number]
        return self._read(max(earlier)) if earlier else {}

    def keep(self, round_number: int, finished: int, state: Arrays) -> None:
        """Keep the state after a round, and drop those that no resume can ask for.

        Args:
            round_number: of the state.
            finished: last round that the coordinator has kept; one state at or before it stays.
            state: named arrays; an empty one is kept too.

        Raises:
            SiteStateError: the disk refuses; the older states are as they were.
        """
        if not state and not self._rounds():
            return
        try:
            self._write(round_number, state)
        except OSError as error:
            raise SiteStateError(
                f"this site cannot keep its state of round {round_number}: {error.strerror}; make room"
            ) from None
        settled = [number for number in self._rounds() if number <= finished]
        for number in sorted(settled)[:-1]:
            self._drop(number)

    def _rounds(self) -> list[int]:
        if self._folder is None:
            return list(self._memory)
        return [int(path.stem) for path in self._folder.glob("[0-9]*.safetensors")]

    def _path(self, number: int) -> Path:
        if self._folder is None:
            raise ValueError("folder=None keeps no files")
        return self._folder / f"{number:06d}.safetensors"

    def _read(self, number: int) -> Arrays:
        if self._folder is None:
            return self._memory[number]
        from safetensors.numpy import load

        content = self._path(number).read_bytes()
        return {name: np.asarray(array) for name, array in load(content).items()}

    def _write(self, number: int, state: Arrays) -> None:
        if self._folder is None:
            self._memory[number] = dict(state)
            return
        from safetensors.numpy import save

        self._folder.mkdir(parents=True, exist_ok=True)
        header = {"vestry": json.dumps({"version": 1, "round": number})}
        tensors = {name: np.asarray(array, order="C") for name, array in state.items()}
        write_atomically(self._path(number), save(tensors, metadata=header))

    def _drop(self, number: int) -> None:
        if self._folder is None:
            del self._memory[number]
        else:
            self._path(number).unlink(missing_ok=True)
