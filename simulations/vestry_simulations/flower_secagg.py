"""What Flower's SecAgg+ costs at the same sizes, by Flower's own functions (flwr 1.41).

The steps are those of ``flwr.client.mod.secure_aggregation.secaggplus_mod`` for a client, and of
``flwr.server.workflow.secure_aggregation`` for the server, with its default ranges, every site every other's
neighbour, and this project's threshold. Messages are not sent. The other sites' masked vectors and shares are
copies of the measured one's: they take as long to add, to combine and to expand as their own would.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.common import bytes_to_ndarray, ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt, generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import (
    pseudo_rand_gen,
    share_keys_plaintext_concat,
    share_keys_plaintext_separate,
)
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)
from numpy.typing import NDArray

__all__ = ["FlowerCost", "flower_cost"]

_RANGE, _TARGET, _MODULUS, _MAX_WEIGHT, _EXAMPLES = 8.0, 1 << 22, 1 << 32, 1000.0, 100

Tell = Callable[[float], None]


@dataclass(frozen=True)
class FlowerCost:
    """One sum.

    Attributes:
        client_cpu_s: one client, all stages.
        server_cpu_s: the server, all stages.
        bytes_per_parameter: of a client's masked vector.
    """

    client_cpu_s: float
    server_cpu_s: float
    bytes_per_parameter: float


def flower_cost(
    update: NDArray[np.float32], sites: int, threshold: int, lost: int, tell: Tell = lambda done: None
) -> FlowerCost:
    """Measure one client and the server.

    Args:
        update: (d,) of every site.
        sites: n.
        threshold: shares that make a secret.
        lost: sites that send no masked vector.
        tell: called with the part that is done, from 0 to 1.
    """
    pairs = [[_pair() for _ in range(2)] for _ in range(sites - 1)]  # the others'; not measured
    began = time.process_time()
    own = _Client(threshold, [(first[1], second[1]) for first, second in pairs])
    client = time.process_time() - began
    sealed = own.sealed_by_others([second[0] for _, second in pairs])
    began = time.process_time()
    masked = own.masked(update, sealed)
    client += time.process_time() - began
    tell(0.5)
    began = time.process_time()
    _serve(own, masked, sites, lost, lambda done: tell(0.5 + 0.5 * done))
    server = time.process_time() - began
    return FlowerCost(client, server, sum(map(len, masked)) / max(1, update.size))


def _pair() -> tuple[bytes, bytes]:
    private, public = generate_key_pairs()
    return private_key_to_bytes(private), public_key_to_bytes(public)


class _Client:
    """Stages `setup` and `share keys` of one client, whose number is the highest."""

    def __init__(self, threshold: int, others: list[tuple[bytes, bytes]]) -> None:
        self.number, self._others = len(others), others
        (self.private, self.public), (self._sealing, self._sealing_public) = _pair(), _pair()
        self.seed = os.urandom(32)
        count = len(others) + 1
        self.seed_shares = create_shares(self.seed, threshold, count)
        self.key_shares = create_shares(self.private, threshold, count)
        self._shared: list[bytes] = []
        for number, (_, sealing) in enumerate(others):
            key = generate_shared_key(bytes_to_private_key(self._sealing), bytes_to_public_key(sealing))
            self._shared.append(key)
            plain = share_keys_plaintext_concat(
                self.number, number, self.seed_shares[number], self.key_shares[number]
            )
            encrypt(key, plain)

    def sealed_by_others(self, private: list[bytes]) -> list[bytes]:
        """What the others seal for this client."""
        share = (self.seed_shares[0], self.key_shares[0])
        return [
            encrypt(
                generate_shared_key(bytes_to_private_key(key), bytes_to_public_key(self._sealing_public)),
                share_keys_plaintext_concat(number, self.number, *share),
            )
            for number, key in enumerate(private)
        ]

    def masked(self, update: NDArray[np.float32], sealed: list[bytes]) -> list[bytes]:
        """Stage `collect masked vectors`."""
        for key, ciphertext in zip(self._shared, sealed, strict=True):
            share_keys_plaintext_separate(decrypt(key, ciphertext))
        ratio = round(_EXAMPLES / _MAX_WEIGHT * _TARGET)
        scaled = parameters_multiply([update], ratio / _TARGET)
        vector: list[NDArray[Any]] = factor_combine(ratio, quantize(scaled, _RANGE, _TARGET))
        shapes = get_parameters_shape(vector)
        vector = parameters_addition(vector, pseudo_rand_gen(self.seed, _MODULUS, shapes))
        for masking, _ in self._others:
            key = generate_shared_key(bytes_to_private_key(self.private), bytes_to_public_key(masking))
            vector = parameters_addition(vector, pseudo_rand_gen(key, _MODULUS, shapes))
        return [ndarray_to_bytes(array) for array in parameters_mod(vector, _MODULUS)]


def _serve(client: _Client, masked: list[bytes], sites: int, lost: int, tell: Tell) -> None:
    """Sum of the masked vectors, masks away, decoded."""
    alive = sites - lost
    steps, done = 2 * alive + lost * (sites - 1), 0
    total = [bytes_to_ndarray(content) for content in masked]
    for _ in range(alive - 1):
        total = parameters_addition(total, [bytes_to_ndarray(content) for content in masked])
        done += 1
        tell(done / steps)
    total = parameters_mod(total, _MODULUS)
    shapes = get_parameters_shape(total)
    for _ in range(alive):
        seed = combine_shares(client.seed_shares[:alive])
        total = parameters_subtraction(total, pseudo_rand_gen(seed, _MODULUS, shapes))
        done += 1
        tell(done / steps)
    for _ in range(lost):
        private = combine_shares(client.key_shares[:alive])
        for _ in range(sites - 1):
            key = generate_shared_key(bytes_to_private_key(private), bytes_to_public_key(client.public))
            total = parameters_addition(total, pseudo_rand_gen(key, _MODULUS, shapes))
            done += 1
            tell(done / steps)
    factor, vector = factor_extract(parameters_mod(total, _MODULUS))
    for array in dequantize(vector, _RANGE, _TARGET):
        array += -(alive - 1) * _RANGE
        array *= _TARGET / max(1, factor)
    tell(1.0)
