"""A Flower grid in this process: Flower's own messages and a real ClientApp, without a broker."""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from flwr.app import Context, Message, RecordDict, UserConfig
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from vestry_client.app import make_app
from vestry_client.handlers import Site

__all__ = ["InProcessGrid"]

# Flower's runtime sets these before an app runs; a Message cannot be made without them.
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1

Meddle = Callable[[int, Message], Message | None]


class InProcessGrid(Grid):
    """Node n is ``sites[n - 1]``. ``meddle`` may change a reply, or swallow it with None."""

    def __init__(self, sites: list[Site], meddle: Meddle = lambda node, reply: reply) -> None:
        self._sites, self._meddle = sites, meddle
        self._app = make_app(lambda context: sites[int(context.node_config["number"]) - 1])
        self._replies: dict[str, Message] = {}
        self.pushed: list[Message] = []

    def set_run(self, run: Any) -> None:
        """There is one run only."""

    @property
    def run(self) -> Any:
        """There is one run only."""
        raise NotImplementedError

    def create_message(self, *arguments: Any, **more: Any) -> Message:
        """Flower's older way, which nobody uses."""
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        """One node for each site."""
        return range(1, len(self._sites) + 1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand each message to the ClientApp, as a SuperNode would."""
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            self.pushed.append(message)
            node = message.metadata.dst_node_id
            context = Context(
                run_id=1,
                node_id=node,
                node_config=UserConfig({"number": node}),
                state=RecordDict(),
                run_config=UserConfig(),
            )
            reply = self._meddle(node, self._app(message, context))
            if reply is not None:
                self._replies[message.metadata.message_id] = reply
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there."""
        return [self._replies.pop(name) for name in list(message_ids) if name in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, then pull."""
        return self.pull_messages(self.push_messages(messages))
