"""Which client updates may be added: shape, type, finite values, norm, weight."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from vestry_strategies.orders import Refusal, Reply, TrainReply

__all__ = ["check_update", "sort_replies"]


_LIMIT = "aggregation.max_update_norm"


def check_update(
    reply: TrainReply, round_number: int, size: int, max_norm: float, rule: str = _LIMIT
) -> str | None:
    """Why an update must be left out.

    Args:
        reply: the client update.
        round_number: of the order.
        size: length d + k that an update must have.
        max_norm: largest L2 norm allowed.
        rule: the study's key that says so.

    Returns:
        The reason, or None for a good update. It names no values but the norm.
    """
    update = reply.update
    if reply.round != round_number:
        return f"its update is of round {reply.round}"
    if update.dtype != np.float32:
        return f"its update has type {update.dtype}, not float32"
    if update.shape != (size,):
        return f"its update has shape {update.shape}, not ({size},)"
    if not np.isfinite(update).all():
        return "its update is not finite"
    norm = float(np.linalg.norm(update.astype(np.float64)))
    if norm > max_norm:
        return f"its update has norm {norm:.3g}, above {rule} = {max_norm:g}"
    if not (math.isfinite(reply.weight) and reply.weight >= 0):
        return "its weight is negative or not finite"
    return None


def sort_replies(
    replies: Iterable[Reply],
    asked: Iterable[str],
    round_number: int,
    size: int,
    max_norm: float,
    rule: str = _LIMIT,
) -> tuple[list[TrainReply], Mapping[str, str]]:
    """Sort replies to a train order into usable updates and reasons.

    Returns:
        The good updates in the order of the sites' names (so that sums do not depend on who was
        fastest), and for each other site that was asked the reason why it is left out.
    """
    good: dict[str, TrainReply] = {}
    left_out = dict.fromkeys(asked, "no reply before the deadline")
    for reply in replies:
        if reply.site not in left_out or reply.site in good:
            continue  # nobody asked, or a second reply
        if isinstance(reply, TrainReply):
            reason = check_update(reply, round_number, size, max_norm, rule)
            if reason is None:
                good[reply.site] = reply
            else:
                left_out[reply.site] = reason
        elif isinstance(reply, Refusal):
            left_out[reply.site] = f"{reply.code}: {reply.message}"
        else:
            left_out[reply.site] = f"an unexpected {type(reply).__name__}"
    for site in good:
        del left_out[site]
    return [good[site] for site in sorted(good)], dict(sorted(left_out.items()))
