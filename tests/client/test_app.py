"""The ClientApp decodes, asks the handlers, encodes."""

import pytest
from flwr.app import Context, Message, RecordDict, UserConfig
from flwr.supercore.task_identity import TaskIdentity

from tests.client.bench import make_bench, make_site
from vestry_client.app import make_app
from vestry_strategies.messages import MessageError, decode_reply, encode
from vestry_strategies.orders import (
    DescribeOrder,
    DescribeReply,
    EvaluateReply,
    Order,
    Refusal,
    StatisticsOrder,
    StatisticsReply,
    TrainReply,
)

BENCH = make_bench()
CONTEXT = Context(
    run_id=1,
    node_id=2,
    node_config=UserConfig({"site": "north"}),
    state=RecordDict(),
    run_config=UserConfig(),
)

# Flower's runtime sets these before an app runs; a Message cannot be made without them.
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1


def send(content: RecordDict, kind: str) -> RecordDict:
    app = make_app(lambda context: make_site(name=str(context.node_config["site"])))
    message = Message(content, dst_node_id=2, message_type=kind)
    message.metadata.__dict__["_message_id"] = "1"
    reply: RecordDict = app(message, CONTEXT).content
    return reply


@pytest.mark.parametrize(
    ("order", "kind", "reply"),
    [
        (DescribeOrder(), "query", DescribeReply),
        (StatisticsOrder(BENCH.study.to_json()), "query", StatisticsReply),
        (BENCH.train_order(), "train", TrainReply),
        (BENCH.evaluate_order(), "evaluate", EvaluateReply),
        (StatisticsOrder("{"), "query", Refusal),
    ],
)
def test_each_order_has_its_reply(order: Order, kind: str, reply: type) -> None:
    assert isinstance(decode_reply(send(encode(order), kind)), reply)


def test_the_site_is_found_from_flowers_context() -> None:
    assert decode_reply(send(encode(DescribeOrder()), "query")) == DescribeReply("north")


def test_what_is_no_order_of_ours_is_refused() -> None:
    with pytest.raises(MessageError):
        send(RecordDict(), "query")
