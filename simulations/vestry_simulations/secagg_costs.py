"""What a secure sum costs: CPU seconds, bytes and memory of one sum in which every message is real.

All sites and the server run in this process, step by step, with the functions that sites and coordinators
run. Of the sites one is measured, in the middle of the roster: its work is every other site's. The sites put
in the same update with different weights, one after another, so that memory does not grow with their number.
Not in the figures: disk and network (journals here forget, frames are views of a vector).

The floor is what the masks cannot do without: AES-128-CTR into a reused buffer of 256 KiB, and an addition of
that buffer, for each mask, by turns with the mask stage itself. Medians of ``_TURNS``.
"""

import gc
import math
import multiprocessing
import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from vestry_privacy.identity import SiteIdentity
from vestry_privacy.secagg import client
from vestry_privacy.secagg.directory import Directory, Member
from vestry_privacy.secagg.history import NO_HEAD, Head
from vestry_privacy.secagg.masks import MASK_KEY_BYTES, MaskStream, add_masks, digest_words
from vestry_privacy.secagg.messages import sign_plan
from vestry_privacy.secagg.plan import Plan, threshold, tolerated_dropouts
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.server import SumServer
from vestry_simulations.partition import SimulationError

__all__ = ["SecaggCost", "lost_sites", "secagg_cost"]

_TURNS = 5
_BLOCK_BYTES = 1 << 18
_FRAME_WORDS = 1 << 17
_LANE_BITS, _RANGE, _LIMIT, _WIDE = 21, 8.0, 1000, 2
_SAMPLED = 1009
_SITES_IN_MEMORY = 10

Tell = Callable[[float], None]


@dataclass(frozen=True)
class SecaggCost:
    """One secure sum; seconds are CPU seconds of one thread.

    Attributes:
        parameters: values that are added up.
        sites: seats of the roster.
        dropouts: sites lost after their keys were shared and before their input came.
        client_cpu_s: one site, all six steps.
        key_stage_cpu_s: of these, the three before training.
        server_cpu_s: the server, all steps, the sum decoded.
        digest_cpu_s: SHA-256 over one masked vector; a site does it once, the server for every survivor.
        floor_cpu_s: the least that a site's masks can cost on this machine.
        mask_over_floor: its mask stage over that.
        bytes_per_parameter: masked words that a site sends.
        peak_memory_bytes: that a site needs to encode and mask, beyond update and program.
        flower_client_cpu_s: the same of Flower's SecAgg+; None where it was not measured.
        flower_server_cpu_s: the same.
        flower_bytes_per_parameter: the same.
    """

    parameters: int
    sites: int
    dropouts: int
    client_cpu_s: float
    key_stage_cpu_s: float
    server_cpu_s: float
    digest_cpu_s: float
    floor_cpu_s: float
    mask_over_floor: float
    bytes_per_parameter: float
    peak_memory_bytes: int
    flower_client_cpu_s: float | None = None
    flower_server_cpu_s: float | None = None
    flower_bytes_per_parameter: float | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def lost_sites(sites: int, dropouts: float) -> int:
    """How many sites a share of them is, rounded up.

    Raises:
        SimulationError: more than a sum of so many sites tolerates.
    """
    lost, most = math.ceil(dropouts * sites), tolerated_dropouts(sites)
    if lost > most:
        raise SimulationError(
            f"dropouts={dropouts:g}: {lost} of {sites} sites; a sum of {sites} goes on without {most} at most"
        )
    return lost


def secagg_cost(
    parameters: int, sites: int, lost: int = 0, *, flower: bool = False, tell: Tell = lambda done: None
) -> SecaggCost:
    """Measure one sum.

    Args:
        parameters: d.
        sites: n, 3 to 200.
        lost: sites that send no input, from :func:`lost_sites`.
        flower: measure Flower's SecAgg+ too, at the same sizes.
        tell: called with the part that is done, from 0 to 1.

    Raises:
        SimulationError: the sum is not what was put in.
    """
    share = 0.5 if flower else 1.0
    peak = _in_a_new_process(parameters, sites)
    tell(0.05 * share)
    update = np.random.default_rng(0).standard_normal(parameters, dtype=np.float32)
    plan, meter = _Sites(parameters, sites), Counter[str]()
    digest, floor, masks = _stages(plan.plan.shape.words, sites)
    tell(0.1 * share)
    _run(plan, update, lost, meter, lambda done: tell((0.1 + 0.9 * done) * share))
    keys, others = meter["keys"], meter["input"] + meter["unmask"]
    cost = SecaggCost(
        parameters, sites, lost, keys + others, keys, meter["server"], digest, floor, masks / floor,
        8 * plan.plan.shape.words / parameters, peak,
    )  # fmt: skip
    if not flower:
        return cost
    from vestry_simulations.flower_secagg import flower_cost

    other = flower_cost(update, sites, threshold(sites), lost, lambda done: tell(0.5 + 0.5 * done))
    return SecaggCost(
        **{
            **cost.plain(),
            "flower_client_cpu_s": other.client_cpu_s,
            "flower_server_cpu_s": other.server_cpu_s,
            "flower_bytes_per_parameter": other.bytes_per_parameter,
        }
    )


class _Forgetful:
    """A journal that keeps nothing, since the disk is not what is measured."""

    def see_peers(self, heads: dict[bytes, tuple[Head, Head]]) -> None:
        """Every head is new."""

    def consume(self, plan_hash: bytes) -> None:
        """It may leave."""

    def sign(self, plan_hash: bytes, view: bytes, inputs: dict[bytes, Head]) -> None:
        """It may leave."""

    def reveal(self, plan_hash: bytes) -> None:
        """They may leave."""


class _Sites:
    """Fresh identities, a directory of them, and a plan."""

    def __init__(self, parameters: int, sites: int) -> None:
        coordinator = SiteIdentity(Ed25519PrivateKey.generate())
        own = {f"site-{number}": SiteIdentity(Ed25519PrivateKey.generate()) for number in range(sites)}
        members = [Member(name, name, identity.public_key) for name, identity in own.items()]
        directory = Directory.of(1, coordinator.public_key, members)
        self.plan = Plan(
            study=bytes(32), run="costs", kind="train", sequence=1, round=1, directory=1,
            roster=directory.roster(), model=bytes(32), configuration=bytes(32), code=bytes(32),
            values=parameters, wide=_WIDE, lane_bits=_LANE_BITS, value_range=_RANGE, weight_limit=_LIMIT,
            threshold=threshold(sites), least=3, privacy=b"", deadline=60.0,
        )  # fmt: skip
        self.roster = Roster.of(self.plan, directory)
        self.identities = [own[name] for name in self.roster.names]
        self.names, self.measured = self.roster.names, sites // 2
        self.server = SumServer(self.plan, directory, sign_plan(self.plan, coordinator))
        self.journal = _Forgetful()

    def ready(self, meter: Counter[str], tell: Tell) -> dict[str, client.Ready]:
        """The key stage of all sites."""
        advertised, dealt, ready = {}, {}, {}
        for index, name in enumerate(self.names):
            with self.clock(meter, index, "keys"):
                advertised[name], sent = client.advertise(
                    self.roster, self.identities[index], name, (NO_HEAD, NO_HEAD), os.urandom
                )
            with _clock(meter, "server"):
                self.server.collect_keys(name, sent)
        with _clock(meter, "server"):
            keys = self.server.roster_keys()
        for index, name in enumerate(self.names):
            with self.clock(meter, index, "keys"):
                dealt[name], sent = client.deal(advertised[name], keys, self.journal, os.urandom)
            with _clock(meter, "server"):
                self.server.collect_shares(name, sent)
            tell(0.5 * (index + 1) / len(self.names))
        for index, name in enumerate(self.names):
            with _clock(meter, "server"):
                delivery = self.server.deliver_to(name)
            with self.clock(meter, index, "keys"):
                ready[name], sent = client.accept(dealt[name], delivery)
            with _clock(meter, "server"):
                self.server.collect_ready(name, sent)
            tell(0.5 + 0.5 * (index + 1) / len(self.names))
        with _clock(meter, "server"):
            self.server.expect_input()
        return ready

    def mask(
        self, state: client.Ready, update: NDArray[np.float32], weight: int
    ) -> tuple[client.Masked, bytes, NDArray[np.uint64]]:
        """A site's masked input."""
        return client.mask(state, update, weight, np.zeros(_WIDE), Secret(os.urandom(32)), self.journal)

    def unmask(self, masked: dict[str, client.Masked], meter: Counter[str]) -> None:
        """Consistency and reveal of all survivors."""
        agreed = {}
        with _clock(meter, "server"):
            survivors = self.server.survivors()
        for index, name in enumerate(masked):
            with self.clock(meter, index, "unmask"):
                agreed[name], sent = client.agree(masked[name], survivors, self.journal)
            with _clock(meter, "server"):
                self.server.collect_consistent(name, sent)
        with _clock(meter, "server"):
            signatures = self.server.unmask()
        for index, name in enumerate(agreed):
            with self.clock(meter, index, "unmask"):
                _, sent = client.reveal(agreed[name], signatures, self.journal)
            with _clock(meter, "server"):
                self.server.collect_revealed(name, sent)

    def clock(self, meter: Counter[str], index: int, role: str) -> AbstractContextManager[None]:
        """Counts for a role where the site is the measured one."""
        return _clock(meter, role if index == self.measured else "others")


def _run(sites: _Sites, update: NDArray[np.float32], lost: int, meter: Counter[str], tell: Tell) -> None:
    """One sum from keys to result; the sites lost are the last of the roster."""
    ready = sites.ready(meter, lambda done: tell(0.2 * done))
    names = sites.names[: len(sites.names) - lost]
    masked, weights = {}, 0
    for index, name in enumerate(names):
        weight = 1 + index * (_LIMIT - 1) // len(names)
        weights += weight
        with sites.clock(meter, index, "input"):
            masked[name], sent, words = sites.mask(ready.pop(name), update, weight)
        frames = [words[start : start + _FRAME_WORDS] for start in range(0, len(words), _FRAME_WORDS)]
        with _clock(meter, "server"):
            sites.server.add_input(name, sent, frames)
        del words, frames
        tell(0.2 + 0.6 * (index + 1) / len(names))
    sites.unmask(masked, meter)
    with _clock(meter, "server"):
        found = sites.server.result()
    mean = found.values[::_SAMPLED] / weights
    bound = len(names) * sites.plan.ring.step * _LIMIT / weights
    if found.weight != weights or np.max(np.abs(mean - update[::_SAMPLED]), initial=0.0) >= bound:
        raise SimulationError("the sum is not that of what was put in; please report it")
    tell(1.0)


@contextmanager
def _clock(meter: Counter[str], role: str) -> Iterator[None]:
    began = time.process_time()
    yield
    meter[role] += time.process_time() - began  # type: ignore[assignment]


def _stages(words: int, masks: int) -> tuple[float, float, float]:
    """CPU seconds of a digest, of the floor and of the mask stage, for so many masks over so many words."""
    vector: NDArray[np.uint64] = np.zeros(words, np.uint64)
    digests, floors, stages = [], [], []
    for _ in range(_TURNS):
        digests.append(_seconds(partial(digest_words, vector)))
        floors.append(_seconds(partial(_floor, words, masks)))
        keys = [Secret(os.urandom(MASK_KEY_BYTES)) for _ in range(masks)]
        stages.append(_seconds(partial(_mask_stage, vector, keys)))
    return median(digests), median(floors), median(stages)


def _mask_stage(vector: NDArray[np.uint64], keys: Sequence[Secret]) -> None:
    half = len(keys) // 2
    add_masks(vector, [MaskStream(key) for key in keys[:half]], [MaskStream(key) for key in keys[half:]])


def _floor(words: int, masks: int) -> None:
    ciphers = [
        Cipher(algorithms.AES128(os.urandom(16)), modes.CTR(bytes(16))).encryptor() for _ in range(masks)
    ]
    zeros, room = bytes(_BLOCK_BYTES), np.zeros(_BLOCK_BYTES + 16, np.uint8)
    mask, target = room[:_BLOCK_BYTES].view(np.uint64), np.zeros(_BLOCK_BYTES // 8, np.uint64)
    for left in range(8 * words, 0, -_BLOCK_BYTES):
        size = min(left, _BLOCK_BYTES)
        for cipher in ciphers:
            cipher.update_into(memoryview(zeros)[:size], room.data)
            np.add(target[: size // 8], mask[: size // 8], out=target[: size // 8])


def _seconds(step: Callable[[], object]) -> float:
    began = time.process_time()
    step()
    return time.process_time() - began


def _in_a_new_process(parameters: int, sites: int) -> int:
    """Its own process, because what this one has used before would count.

    The key stage of many sites in one process would count as well, so they are ten at most: another site is
    another cipher's state, some hundred bytes.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_of_input, parameters, min(sites, _SITES_IN_MEMORY)).result()


def _peak_of_input(parameters: int, sites: int) -> int:
    """Bytes that encoding and masking need at most beyond what there was, the words included."""
    plan = _Sites(parameters, sites)
    state = plan.ready(Counter(), lambda done: None)[plan.names[plan.measured]]
    update = np.full(parameters, 0.5, np.float32)
    gc.collect()
    before = _memory("VmRSS")
    plan.mask(state, update, 1)
    return max(0, _memory("VmHWM") - before)


def _memory(what: str) -> int:
    """Bytes that are resident (VmRSS), or were at most (VmHWM); always the latter where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes where that is so
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))
