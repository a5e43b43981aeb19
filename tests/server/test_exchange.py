"""FlowerExchange over Flower's messages: names, deadlines, errors, impostors."""

import time
from collections.abc import Iterable

import pytest
from flwr.app import Error, Message, RecordDict

from tests.client.bench import make_bench, make_site, make_table
from tests.server.grid import InProcessGrid, Meddle
from vestry_client.handlers import Site
from vestry_privacy.errors import VestryError
from vestry_server.exchange import FlowerExchange
from vestry_strategies.messages import encode
from vestry_strategies.orders import DescribeOrder, DescribeReply, Order, Refusal, TrainReply

BENCH = make_bench()


def sites() -> list[Site]:
    return [make_site(make_table(seed=seed), name=name) for seed, name in enumerate(("c", "a", "b"))]


def exchange(meddle: Meddle = lambda node, reply: reply) -> FlowerExchange:
    """An exchange over sound sites; ``meddle`` sets in after they said their names."""
    named: set[int] = set()

    def later(node: int, reply: Message) -> Message | None:
        if node not in named:
            named.add(node)
            return reply
        return meddle(node, reply)

    return FlowerExchange(InProcessGrid(sites(), later), 3, poll_seconds=0.01)


def train(made: FlowerExchange, deadline: float = 20.0) -> dict[str, object]:
    orders: dict[str, Order] = dict.fromkeys(made.sites(), BENCH.train_order())
    return {reply.site: reply for reply in made.send(orders, deadline)}


def test_nodes_say_their_names() -> None:
    assert exchange().sites() == ("a", "b", "c")


def test_orders_reach_the_site_they_are_for() -> None:
    made = exchange()
    replies = list(made.send({"b": DescribeOrder()}, 5.0))
    assert replies == [DescribeReply("b")]


def test_everybody_trains() -> None:
    replies = train(exchange())
    assert set(replies) == {"a", "b", "c"}
    assert all(isinstance(reply, TrainReply) for reply in replies.values())


def test_messages_have_flowers_types() -> None:
    grid = InProcessGrid(sites())
    made = FlowerExchange(grid, 3, poll_seconds=0.01)
    list(made.send({"a": BENCH.train_order(), "b": BENCH.evaluate_order()}, 5.0))
    assert [message.metadata.message_type for message in grid.pushed] == ["query"] * 3 + ["train", "evaluate"]


def test_replies_are_pulled_a_few_at_a_time() -> None:
    """So that not every site's vector is in memory at once."""
    pulled: list[int] = []

    class Counting(InProcessGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            found = list(super().pull_messages(message_ids))
            pulled.append(len(found))
            return found

    many = [make_site(make_table(), name=f"s{number}") for number in range(10)]
    made = FlowerExchange(Counting(many), 10, poll_seconds=0.01)
    assert len(made.sites()) == 10
    assert pulled == [4, 4, 2]


def test_sites_that_are_hoped_for_are_waited_for_and_gone_without() -> None:
    class Late(InProcessGrid):
        asked = 0

        def get_node_ids(self) -> Iterable[int]:
            self.asked += 1
            return range(1, min(self.asked, 3) + 1)

    assert FlowerExchange(Late(sites()), 2, 5.0, 0.01, sites_hoped=3).sites() == ("a", "b", "c")
    assert FlowerExchange(Late(sites()), 2, 5.0, 0.01).sites() == ("a", "c")
    began = time.monotonic()
    assert FlowerExchange(Late(sites()), 2, 0.3, 0.01, sites_hoped=9).sites() == ("a", "b", "c")
    assert time.monotonic() - began < 20
    with pytest.raises(VestryError, match="nodes=3 are connected, 4 are needed"):
        FlowerExchange(Late(sites()), 4, 0.3, 0.01, sites_hoped=9)


def test_a_site_that_is_silent_is_not_waited_for_beyond_the_deadline() -> None:
    made = exchange(lambda node, reply: None if node == 1 else reply)
    began = time.monotonic()
    assert set(train(made, 0.5)) == {"a", "b"}
    assert time.monotonic() - began < 20


def test_an_error_of_flower_counts_as_lost() -> None:
    def failing(node: int, reply: Message) -> Message:
        if node == 2:
            reply.__dict__["_content"], reply.__dict__["_error"] = None, Error(5, "gone")
        return reply

    said = train(exchange(failing))["a"]
    assert said == Refusal("a", "lost", "Flower error 5")


def test_a_site_cannot_answer_for_another() -> None:
    def impostor(node: int, reply: Message) -> Message:
        if node == 3:
            reply.content = encode(Refusal("a", "policy", "I am a"))
        return reply

    replies = train(exchange(impostor))
    assert replies["b"] == Refusal("b", "internal", "the reply names another site")
    assert isinstance(replies["a"], TrainReply)


def test_a_reply_that_is_none_of_ours_is_named() -> None:
    def strange(node: int, reply: Message) -> Message:
        if node == 3:
            reply.content = RecordDict()
        return reply

    assert train(exchange(strange))["b"] == Refusal("b", "internal", "record 'vestry' is missing")


def test_two_nodes_cannot_have_one_name() -> None:
    twins = [make_site(name="a"), make_site(name="a")]
    with pytest.raises(VestryError, match="two nodes claim the site name 'a'"):
        FlowerExchange(InProcessGrid(twins), 2, poll_seconds=0.01)


def test_too_few_nodes_are_said() -> None:
    with pytest.raises(VestryError, match="nodes=3 are connected, 4 are needed"):
        FlowerExchange(InProcessGrid(sites()), 4, wait_seconds=0.1, poll_seconds=0.01)


def test_nodes_that_do_not_say_their_name_do_not_count() -> None:
    grid = InProcessGrid(sites(), lambda node, reply: None if node == 1 else reply)
    with pytest.raises(VestryError, match="sites=2 said their name, 3 are needed"):
        FlowerExchange(grid, 3, wait_seconds=0.2, poll_seconds=0.01)
