"""Replies that were paid for, kept until the next round: a duplicate order gets the identical bytes.

An order that was answered under a privacy ledger is never computed again: a second answer would be a second
look at the data. The reply is on the disk before the ledger's commit, and both before it is sent. A file is
the digest of what follows, then safetensors, which would not notice a changed bit by themselves.

    VestryError
    └── ReplyError    the site's disk refuses, or a kept reply is damaged
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from vestry_privacy.canonical import canonical_hash
from vestry_privacy.errors import VestryError
from vestry_strategies.files import write_atomically
from vestry_strategies.orders import EvaluateReply, MaskedReply, StatisticsReply, TrainReply

__all__ = ["ClearReply", "KeptReply", "PaidReply", "Replies", "ReplyError"]

ClearReply = StatisticsReply | TrainReply | EvaluateReply
"""What a site has computed, as it leaves where the study does not aggregate securely."""

PaidReply = ClearReply | MaskedReply
_KINDS = {kind.__name__: kind for kind in (StatisticsReply, TrainReply, EvaluateReply, MaskedReply)}
_VECTORS = frozenset({"update", "vector"})
_VERSION = 1
_DIGITS = 64


class ReplyError(VestryError):
    """A paid reply cannot be kept or read."""


@dataclasses.dataclass(frozen=True)
class KeptReply:
    """A reply and the order that it answers.

    Attributes:
        order_hash: of the order.
        reply: what was sent, or was about to be.
        digest: hash of the reply's bytes, as the ledger's commit has it.
    """

    order_hash: str
    reply: PaidReply
    digest: str


class Replies:
    """The newest paid reply of each kind, of one site in one study.

    Args:
        folder: where files are kept; None keeps them in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._memory: dict[str, bytes] = {}

    def keep(self, order_hash: str, reply: PaidReply, purpose: str = "") -> str:
        """Keep a reply in place of the older one of its kind and purpose, durably.

        Args:
            order_hash: of the order that it answers.
            reply: what is to be kept.
            purpose: tells masked replies apart, whose kind does not say what they are of.

        Returns:
            Its digest, for the ledger.

        Raises:
            ReplyError: the disk refuses; the older reply is as it was.
        """
        kind = type(reply).__name__ + purpose
        content = _encode(order_hash, reply)
        if self._folder is None:
            self._memory[kind] = _digest(content).encode() + content
            return _digest(content)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / f"{kind}.reply", _digest(content).encode() + content)
        except OSError as error:
            raise ReplyError(
                f"this site cannot keep its reply ({error.strerror}); make room: nothing was sent"
            ) from None
        return _digest(content)

    def find(self, kind: type[object], order_hash: str, purpose: str = "") -> KeptReply | None:
        """The kept reply to an order; None where another one is kept, or none.

        Raises:
            ReplyError: the file is damaged.
        """
        kept = self.newest(kind, purpose)
        return kept if kept is not None and kept.order_hash == order_hash else None

    def newest(self, kind: type[object], purpose: str = "") -> KeptReply | None:
        """The kept reply of a kind and purpose; None where none is.

        Raises:
            ReplyError: the file is damaged.
        """
        content = self._read(kind.__name__ + purpose)
        return None if content is None else _decode(content[:_DIGITS], content[_DIGITS:])

    def _read(self, kind: str) -> bytes | None:
        if self._folder is None:
            return self._memory.get(kind)
        try:
            return (self._folder / f"{kind}.reply").read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ReplyError(f"this site's kept reply cannot be read ({error.strerror})") from None


def _digest(content: bytes) -> str:
    return canonical_hash("vestry-reply/1", content)


def _encode(order_hash: str, reply: PaidReply) -> bytes:
    from safetensors.numpy import save

    plain: dict[str, Any] = {"version": _VERSION, "type": type(reply).__name__, "order": order_hash}
    tensors: dict[str, Any] = {}
    for item in dataclasses.fields(reply):
        value = getattr(reply, item.name)
        if item.name in _VECTORS:
            tensors[item.name] = np.asarray(value, order="C")
        elif isinstance(value, bytes):
            plain[item.name] = value.hex()
        elif item.name == "sums":
            tensors.update({f"sums/{name}": np.asarray(array, order="C") for name, array in value.items()})
            plain["sums"] = list(value)  # safetensors keep no order
        else:
            plain[item.name] = list(value) if isinstance(value, tuple) else value
    return save(tensors, metadata={"vestry": json.dumps(plain, sort_keys=True)})


def _decode(digest: bytes, content: bytes) -> KeptReply:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        if digest != _digest(content).encode():
            raise ValueError("the digest is of something else")
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        plain = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["vestry"])
        if plain.pop("version") != _VERSION:
            raise ReplyError("this site's kept reply is of another version; use the Vestry that wrote it")
        kind, order_hash = _KINDS[plain.pop("type")], plain.pop("order")
    except (SafetensorError, KeyError, ValueError):
        raise ReplyError(
            "this site's kept reply is damaged; the round is paid and cannot be repeated"
        ) from None
    if "spent" in plain:
        plain["spent"] = tuple(plain["spent"])
    if "header" in plain:
        plain["header"] = bytes.fromhex(plain["header"])
    if "sums" in plain:
        plain["sums"] = {name: tensors[f"sums/{name}"] for name in plain["sums"]}
    plain.update({name: tensors[name] for name in _VECTORS & tensors.keys()})
    return KeptReply(order_hash, kind(**plain), _digest(content))
