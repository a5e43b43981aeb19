"""Checkpoints: after each round, everything that a resumed run needs, atomically and durably.

    VestryError
    └── CheckpointError     a checkpoint cannot be written, or none can be read

A checkpoint is a safetensors file: vectors as tensors, the rest as JSON in its header, and a SHA-256 over
both. One that is truncated or changed is passed over, with a warning, for the one before it. The records of
the rounds stand beside it, a line each, in ``history.jsonl``, so that a checkpoint does not grow with them;
lines after the checkpoint's round are of a round that was not finished, and are dropped.
"""

import errno
import hashlib
import json
import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vestry_privacy.errors import VestryError
from vestry_server.progress import RoundRecord
from vestry_strategies.files import write_atomically
from vestry_strategies.parameters import Vector
from vestry_strategies.sums import Arrays

__all__ = ["CHECKPOINT_VERSION", "CheckpointError", "RunState", "load_latest", "save_checkpoint"]

CHECKPOINT_VERSION = 2
_READABLE = (1, CHECKPOINT_VERSION)  # version 1 knows no secure sums
_KEPT = 3
_HISTORY = "history.jsonl"
_log = logging.getLogger("vestry.checkpoint")


class CheckpointError(VestryError):
    """A checkpoint cannot be written or read."""


@dataclass(frozen=True)
class RunState:
    """A run after a round.

    Attributes:
        study_hash: of the study it belongs to.
        round: last finished round; 0 after round 0 (statistics).
        model: (d,) the global model.
        best_model: (d,) the model of ``best_round``.
        best_round: round with the best primary metric; 0 if none was evaluated.
        best_value: that metric.
        server: the strategy's arrays.
        preprocessing: shared by all sites.
        sites: they kept the contract in round 0.
        stop_best: best value of the early-stopping metric.
        stop_wait: evaluations since then.
        stopped: why the run ended early, or "".
        history: of all finished rounds.
        sequence: of the run's last secure sum; 0 without.
        weight_limit: of secure sums: most that one site's weight may be; 0 without.
    """

    study_hash: str
    round: int
    model: Vector
    best_model: Vector
    best_round: int = 0
    best_value: float | None = None
    server: Arrays = field(default_factory=dict)
    preprocessing: Arrays = field(default_factory=dict)
    sites: tuple[str, ...] = ()
    stop_best: float | None = None
    stop_wait: int = 0
    stopped: str = ""
    history: tuple[RoundRecord, ...] = ()
    sequence: int = 0
    weight_limit: int = 0


_OF_SUMS = ("sequence", "weight_limit")
_PLAIN = ("study_hash", "round", "best_round", "best_value", "stop_best", "stop_wait", "stopped", *_OF_SUMS)


def save_checkpoint(folder: Path, state: RunState) -> Path:
    """Write the checkpoint of a round and drop all but the newest three.

    Returns:
        The file.

    Raises:
        CheckpointError: the disk refuses; earlier checkpoints are as they were.
    """
    path = folder / f"round-{state.round:06d}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _append_history(folder / _HISTORY, state)
        write_atomically(path, _encode(state))
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        cause = "the disk is full" if full else f"{error.strerror}"
        raise CheckpointError(
            f"{path}: cannot write the checkpoint of round {state.round}: {cause}; earlier "
            "checkpoints are intact: make room and resume the run"
        ) from None
    for old in sorted(folder.glob("round-*.safetensors"))[:-_KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path) -> RunState | None:
    """Read the newest checkpoint that is whole.

    Returns:
        The state, or None where there is no checkpoint at all.

    Raises:
        CheckpointError: there are checkpoints and none is whole, or one is of a newer version.
    """
    paths = sorted(folder.glob("round-*.safetensors"), reverse=True)
    for path in paths:
        try:
            state = _decode(path.read_bytes())
            return replace(state, history=_read_history(folder / _HISTORY, state.round))
        except (ValueError, KeyError, OSError) as error:
            _log.warning("%s is damaged (%s); trying the one before", path, type(error).__name__)
    if paths:
        raise CheckpointError(f"{folder}: none of its {len(paths)} checkpoints can be read")
    return None


def _append_history(path: Path, state: RunState) -> None:
    """Add the newest record; the lines before it are there since their own rounds."""
    if not state.history:
        path.unlink(missing_ok=True)
        return
    line = json.dumps(state.history[-1].plain(), sort_keys=True) + "\n"
    with path.open("ab") as file:
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def _read_history(path: Path, rounds: int) -> tuple[RoundRecord, ...]:
    """The records of rounds 1 to ``rounds``; what comes after them is cut off.

    Raises:
        ValueError: a line is missing or damaged.
    """
    lines = path.read_bytes().splitlines(keepends=True) if rounds else []
    records = tuple(RoundRecord.from_plain(json.loads(line)) for line in lines[:rounds])
    if [record.round for record in records] != list(range(1, rounds + 1)):
        raise ValueError("history is not whole")
    if len(lines) > rounds:
        write_atomically(path, b"".join(lines[:rounds]))
    return records


def _encode(state: RunState) -> bytes:
    from safetensors.numpy import save

    plain: dict[str, Any] = {name: getattr(state, name) for name in _PLAIN}
    plain["version"] = CHECKPOINT_VERSION
    plain["sites"] = list(state.sites)
    tensors = {"model": state.model, "best_model": state.best_model}
    for group in ("server", "preprocessing"):
        for name, array in getattr(state, group).items():
            tensors[f"{group}/{name}"] = array
    tensors = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    text = json.dumps(plain, sort_keys=True)
    header = {"vestry": text, "sha256": _digest(text, tensors)}
    return save(tensors, metadata={"vestry": json.dumps(header)})


def _digest(text: str, tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"|{name}|{tensors[name].dtype.str}|{tensors[name].shape}|".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def _decode(content: bytes) -> RunState:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(content)
    except SafetensorError:
        raise ValueError("no whole safetensors file") from None
    length = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["vestry"])
    plain = json.loads(header["vestry"])
    if plain["version"] not in _READABLE:
        raise CheckpointError(
            f"checkpoint version={plain['version']} is unknown; this program reads "
            f"versions {' and '.join(map(str, _READABLE))}: use the version of Vestry that wrote it"
        )
    if plain["version"] == 1:
        plain |= dict.fromkeys(_OF_SUMS, 0)
    if header["sha256"] != _digest(header["vestry"], tensors):
        raise ValueError("digest does not match")
    groups: dict[str, dict[str, np.ndarray]] = {"server": {}, "preprocessing": {}}
    for key, array in tensors.items():
        group, _, name = key.partition("/")
        if name:
            groups[group][name] = array
    return RunState(
        model=tensors["model"],
        best_model=tensors["best_model"],
        server=groups["server"],
        preprocessing=groups["preprocessing"],
        sites=tuple(plain["sites"]),
        **{name: plain[name] for name in _PLAIN},
    )
