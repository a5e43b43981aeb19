"""Flower's SecAgg+ beside ours: its own functions, in the order in which its client and server call them."""

import numpy as np
import pytest
from flwr.common import bytes_to_ndarray
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

from vestry_simulations import flower_secagg
from vestry_simulations.flower_secagg import FlowerCost, flower_cost


@pytest.mark.parametrize(("sites", "threshold", "lost"), [(3, 3, 0), (4, 3, 1)])
def test_client_and_server_are_measured(sites: int, threshold: int, lost: int) -> None:
    told: list[float] = []
    cost = flower_cost(np.ones(5000, np.float32), sites, threshold, lost, told.append)
    assert isinstance(cost, FlowerCost)
    assert cost.client_cpu_s > 0
    assert cost.server_cpu_s > 0
    assert 8 <= cost.bytes_per_parameter < 8.1
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_masked_vector_without_its_masks_is_the_quantised_update() -> None:
    """What is measured is the whole work: a mask of its own, one with each other, the weight in front."""
    update = np.linspace(-9, 9, 301, dtype=np.float32)
    others = [flower_secagg._pair() for _ in range(2)]
    sealing = [flower_secagg._pair() for _ in range(2)]
    client = flower_secagg._Client(2, [(one[1], two[1]) for one, two in zip(others, sealing, strict=True)])
    masked = client.masked(update, client.sealed_by_others([private for private, _ in sealing]))
    arrays = [bytes_to_ndarray(content) for content in masked]
    shapes = [array.shape for array in arrays]
    keys = [
        generate_shared_key(bytes_to_private_key(private), bytes_to_public_key(client.public))
        for private, _ in others
    ]
    for key in (client.seed, *keys):
        masks = pseudo_rand_gen(key, 1 << 32, shapes)
        arrays = [(array - mask) % (1 << 32) for array, mask in zip(arrays, masks, strict=True)]
    share = round(0.1 * (1 << 22))
    expected = (np.clip(update * share / (1 << 22), -8, 8) + 8) / 16 * (1 << 22)
    assert arrays[0].tolist() == [share]
    assert np.max(np.abs(arrays[1] - expected)) < 1.5
