"""The seam: one kind of order to the cohort, replies until the deadline.

`rounds.py` knows nothing else of how sites are reached: FlowerExchange works on any of Flower's grids,
the laboratory's LocalExchange hands typed objects to handlers in worker processes.
"""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from vestry_privacy.errors import VestryError
from vestry_strategies.messages import MessageError, decode_reply, encode
from vestry_strategies.orders import (
    DescribeOrder,
    DescribeReply,
    EvaluateOrder,
    Order,
    Refusal,
    Reply,
    TrainOrder,
)

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

__all__ = ["Exchange", "FlowerExchange"]

_TOGETHER = 4
"""Replies pulled at once, so that not every site's vector is in memory at the same time."""


class Exchange(Protocol):
    """How the coordinator reaches the sites."""

    def sites(self) -> tuple[str, ...]:
        """Names of all sites of the federation, sorted."""
        ...

    def send(self, orders: Mapping[str, Order], deadline_seconds: float) -> Iterator[Reply]:
        """Send each site its order; yield the replies as they arrive.

        Ends when every site has replied or the deadline has passed; later replies are never yielded.
        """
        ...


class FlowerExchange:
    """Orders through a Flower grid.

    Args:
        grid: any of flwr's grids, or one with its contract.
        sites_wanted: number of sites without which there is no run.
        wait_seconds: how long to wait for them.
        poll_seconds: pause between two looks for replies.
        sites_hoped: number of sites to wait for, if it is larger: without the others it goes on.

    Raises:
        VestryError: fewer sites are there in time, or two nodes claim one name.
    """

    def __init__(
        self,
        grid: "Grid",
        sites_wanted: int,
        wait_seconds: float = 60.0,
        poll_seconds: float = 0.05,
        sites_hoped: int = 0,
    ) -> None:
        self._grid = grid
        self._poll_seconds = poll_seconds
        self._nodes: dict[str, int] = {}
        node_ids = self._wait_for_nodes(sites_wanted, max(sites_wanted, sites_hoped), wait_seconds)
        describe = {str(node): (node, DescribeOrder()) for node in node_ids}
        for node, reply in self._exchange(describe, wait_seconds):
            if isinstance(reply, DescribeReply):
                if reply.site in self._nodes:
                    raise VestryError(f"two nodes claim the site name '{reply.site}'")
                self._nodes[reply.site] = int(node)
        if len(self._nodes) < sites_wanted:
            raise VestryError(f"sites={len(self._nodes)} said their name, {sites_wanted} are needed")

    def sites(self) -> tuple[str, ...]:
        """Names of all sites of the federation, sorted."""
        return tuple(sorted(self._nodes))

    def send(self, orders: Mapping[str, Order], deadline_seconds: float) -> Iterator[Reply]:
        """Send each site its order; yield the replies as they arrive."""
        addressed = {site: (self._nodes[site], order) for site, order in orders.items()}
        for _, reply in self._exchange(addressed, deadline_seconds):
            yield reply

    def _wait_for_nodes(self, wanted: int, hoped: int, wait_seconds: float) -> list[int]:
        end = time.monotonic() + wait_seconds
        while True:
            nodes = list(self._grid.get_node_ids())
            if len(nodes) >= hoped:
                return sorted(nodes)
            if time.monotonic() >= end:
                if len(nodes) >= wanted:
                    return sorted(nodes)
                raise VestryError(f"nodes={len(nodes)} are connected, {wanted} are needed")
            time.sleep(self._poll_seconds)

    def _exchange(
        self, addressed: Mapping[str, tuple[int, Order]], deadline_seconds: float
    ) -> Iterator[tuple[str, Reply]]:
        from flwr.app import Message

        end = time.monotonic() + deadline_seconds
        waiting: dict[str, str] = {}
        for site, (node, order) in addressed.items():
            message = Message(
                encode(order),
                dst_node_id=node,
                message_type=_message_type(order),
                ttl=deadline_seconds,
            )
            for message_id in self._grid.push_messages([message]):
                waiting[message_id] = site
        while waiting:
            ids = list(waiting)
            for first in range(0, len(ids), _TOGETHER):
                for message in self._grid.pull_messages(ids[first : first + _TOGETHER]):
                    site = waiting.pop(message.metadata.reply_to_message_id)
                    yield site, _decode(site, message)
            if not waiting or time.monotonic() >= end:
                return
            time.sleep(self._poll_seconds)


def _message_type(order: Order) -> str:
    if isinstance(order, TrainOrder):
        return "train"
    return "evaluate" if isinstance(order, EvaluateOrder) else "query"


def _decode(site: str, message: "Message") -> Reply:
    """Read a reply; Flower's own error, or a reply in another's name, counts as a lost site."""
    if message.has_error():
        return Refusal(site, "lost", f"Flower error {message.error.code}")
    try:
        reply = decode_reply(message.content)
    except MessageError as error:
        return Refusal(site, "internal", str(error))
    if not isinstance(reply, DescribeReply) and reply.site != site:
        return Refusal(site, "internal", "the reply names another site")
    return reply
