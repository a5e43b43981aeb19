"""FedMedian against flwr's own strategy, and against what it is for."""

import numpy as np
import pytest

from tests.strategies.oracles import flower_course, our_course
from vestry_strategies.fedmedian import fedmedian


def test_the_course_is_that_of_flower() -> None:
    from flwr.serverapp.strategy import FedMedian

    np.testing.assert_allclose(our_course(fedmedian()), flower_course(FedMedian()), rtol=1e-4, atol=1e-5)


def test_it_declares_that_it_sees_each_update() -> None:
    assert fedmedian().needs_individual_updates


@pytest.mark.parametrize("hostile", [1e9, -1e9, 1e38])
def test_a_minority_cannot_move_it_beyond_the_honest(hostile: float) -> None:
    honest = np.random.default_rng(1).normal(size=(3, 5))
    combine = fedmedian().combine
    assert combine is not None
    found = combine(np.concatenate([honest, np.full((2, 5), hostile)]), np.ones(5))
    assert (found >= honest.min(axis=0)).all()
    assert (found <= honest.max(axis=0)).all()


def test_weights_play_no_part() -> None:
    combine = fedmedian().combine
    assert combine is not None
    updates = np.array([[1.0], [2.0], [9.0]])
    assert combine(updates, np.array([1e9, 1.0, 1.0])) == combine(updates, np.ones(3)) == 2.0
