"""flwr's own strategies, fed with the same updates as ours."""

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import strategies as st

from vestry_strategies.strategy import Strategy, weighted_mean

__all__ = ["RATES", "ROUNDS", "SIZE", "flower_course", "our_course", "updates"]

# Flower's runtime sets these before an app runs; a Message cannot be made without them.
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1

RATES = st.floats(0.01, 10.0)
ROUNDS, SIZE = 6, 9
Round = tuple[np.ndarray, list[np.ndarray], list[int]]


def updates(seed: int = 0) -> list[Round]:
    """For each round a first model (used in round 1 only), three updates, three weights."""
    generator = np.random.default_rng(seed)
    return [
        (
            generator.normal(size=SIZE).astype(np.float32),
            [generator.normal(scale=0.3, size=SIZE).astype(np.float32) for _ in range(3)],
            [int(weight) for weight in generator.integers(1, 50, size=3)],
        )
        for _ in range(ROUNDS)
    ]


def our_course(strategy: Strategy) -> np.ndarray:
    """The model after each round, shape (ROUNDS, SIZE)."""
    model, state = updates()[0][0], strategy.start_state(SIZE)
    course = []
    for _, deltas, weights in updates():
        if strategy.combine is not None:
            stacked = np.stack(deltas).astype(np.float64)
            mean = strategy.combine(stacked, np.array(weights, dtype=np.float64))
        else:
            mean = weighted_mean(deltas, weights)
        model, state = strategy.server_step(state, model, mean)
        course.append(model)
    return np.stack(course)


def flower_course(strategy: Any, *, tau: float | None = None, record: bool = False) -> np.ndarray:
    """The same through a strategy of flwr.

    Args:
        strategy: of flwr.serverapp.strategy.
        tau: set v to tau^2 at first, as the paper does and flwr does not.
        record: the strategy keeps its model as an ArrayRecord (FedAvgM), not as arrays (FedOpt).
    """
    model = updates()[0][0]
    course = []
    for number, (_, deltas, weights) in enumerate(updates(), start=1):
        strategy.current_arrays = ArrayRecord({"0": Array(model)}) if record else {"0": model}
        if tau is not None and number == 1:
            strategy.m_t, strategy.v_t = {"0": np.zeros(SIZE)}, {"0": np.full(SIZE, tau**2)}
        replies = [_reply(model + delta, weight) for delta, weight in zip(deltas, weights, strict=True)]
        arrays, _ = strategy.aggregate_train(number, replies)
        model = next(iter(arrays.values())).numpy().astype(np.float32)
        course.append(model)
    return np.stack(course)


def _reply(weights: np.ndarray, examples: int) -> Message:
    content = RecordDict(
        {
            "arrays": ArrayRecord({"0": Array(weights.astype(np.float32))}),
            "metrics": MetricRecord({"num-examples": examples}),
        }
    )
    asked = Message(RecordDict(), dst_node_id=1, message_type="train")
    asked.metadata.__dict__["_message_id"] = "1"
    return Message(content, reply_to=asked)
