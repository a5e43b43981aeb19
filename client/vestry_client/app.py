"""The ClientApp: decode, handlers, encode; nothing else."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from vestry_client.handlers import Site, handle
from vestry_strategies.messages import decode_order, encode

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp

__all__ = ["make_app"]


def make_app(find_site: "Callable[[Context], Site]") -> "ClientApp":
    """A ClientApp over the site's handlers.

    Args:
        find_site: the site that a node is, from Flower's context (its node_config).
    """
    from flwr.app import Message
    from flwr.clientapp import ClientApp

    app = ClientApp()

    def answer(message: "Message", context: "Context") -> "Message":
        reply = handle(find_site(context), decode_order(message.content))
        return Message(encode(reply), reply_to=message)

    app.query()(answer)
    app.train()(answer)
    app.evaluate()(answer)
    return app
