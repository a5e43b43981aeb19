"""One site's part in a secure sum: the steps in order, and the masked reply.

Policy and ledger decide before the first key leaves (sum_admission.py), so that whoever refuses is in no sum.
Model and preprocessing are held against the plan when they come, and nothing is computed for another one.
"""

import hashlib
import math

import numpy as np
import torch

from vestry_client.plain_orders import plain_weight, summand
from vestry_client.private import order_hash
from vestry_client.private_orders import PrivateOrder, private_reply
from vestry_client.replies import ClearReply
from vestry_client.secure import LiveSum, SecureSeat, SumState
from vestry_client.site import Bench, Site
from vestry_client.sum_admission import admit, heads_of, kind_of, require_order, require_study
from vestry_privacy.clipping import clip_vector
from vestry_privacy.secagg.client import (
    Advertised,
    Agreed,
    Dealt,
    Masked,
    Ready,
    Revealing,
    accept,
    advertise,
    agree,
    deal,
    mask,
    reveal,
)
from vestry_privacy.secagg.deals import Complained
from vestry_privacy.secagg.errors import PlanRefused, RosterRefused, WrongStep
from vestry_strategies.orders import MaskedReply, SecureOrder, SecureReply, StatisticsReply, TrainReply
from vestry_strategies.parameters import Vector
from vestry_strategies.secure_plan import DIVERGED, LOSS, sum_layout
from vestry_strategies.sums import Arrays

__all__ = ["check_asked", "secure_reply", "secure_step"]

_BLOCK = 65536


def check_asked(bench: Bench, order: PrivateOrder) -> None:
    """Refuse an order for a reply in the clear where the study aggregates securely, and the reverse.

    Raises:
        PlanRefused: else the coordinator could get an update in the clear by leaving a word out.
    """
    if bench.study.aggregation.secure and not order.secure:
        raise PlanRefused(
            "order.secure",
            "is empty, and the study aggregates securely: this site hands out no reply in the clear",
        )
    if order.secure and not bench.study.aggregation.secure:
        raise PlanRefused("order.secure", "names a sum, and the study says aggregation.secure = false")


def _seat(site: Site, bench: Bench) -> SecureSeat:
    if not bench.study.aggregation.secure:
        raise PlanRefused("order", "is a step of a secure sum, and the study says aggregation.secure = false")
    if site.secure is None:
        raise RosterRefused(
            "seat",
            "this site has no identity, directory and journal for secure sums; set them up, or take no part "
            "in studies with aggregation.secure = true",
            peer=site.name,
        )
    return site.secure


def secure_step(site: Site, bench: Bench, order: SecureOrder) -> SecureReply:
    """Take a step of a secure sum that is not the masked input.

    Raises:
        ProtocolAbort: a rule of the protocol is broken, and then nothing more of this sum leaves; or the step
            is out of order, and then the sum stands where it was.
        PolicyRefusal, LedgerError, DataError: the site takes no part; before any key leaves.

    Guarantees:
        A duplicate of the newest order gets the identical bytes. Signatures and shares are in the journal, on
        the disk, before they leave.
    """
    seat = _seat(site, bench)
    asked = (order.step, hashlib.sha256(order.message).hexdigest())
    live = seat.find(order.plan)
    if live is not None:
        require_study(bench, live.plan)
        answer = live.again(asked)
        if isinstance(answer, SecureReply):
            return answer
    if order.step == "keys":
        return _keys(site, bench, seat, order, asked)
    return _step(site, seat, seat.live(order.plan), order, asked)


def _step(
    site: Site, seat: SecureSeat, live: LiveSum, order: SecureOrder, asked: tuple[str, str]
) -> SecureReply:
    """The steps after the first."""
    state, message = _advance(seat, live, order)
    reply = SecureReply(site.name, order.step, order.plan, message)
    live.put(state, asked, reply)
    if isinstance(state, Revealing):
        seat.keep_transcript(live, state)
    return reply


def _advance(seat: SecureSeat, live: LiveSum, order: SecureOrder) -> tuple[SumState | None, bytes]:
    if order.step == "shares":
        return deal(live.take(Advertised), order.message, seat.journal, seat.entropy)
    if order.step == "deliver":
        try:
            return accept(live.take(Dealt), order.message)
        except Complained as error:
            return None, error.complaint
    if order.step == "survivors":
        return agree(live.take(Masked), order.message, seat.journal)
    if order.step == "unmask":
        return reveal(live.take(Agreed), order.message, seat.journal)
    raise WrongStep("order of steps", "the order names a step that there is not", round=live.plan.round)


def _keys(
    site: Site, bench: Bench, seat: SecureSeat, order: SecureOrder, asked: tuple[str, str]
) -> SecureReply:
    plan, roster = admit(site, bench, seat, order.message, order.plan)
    state, message = advertise(roster, seat.identity, site.name, heads_of(site, seat), seat.entropy)
    reply = SecureReply(site.name, "keys", order.plan, message)
    seat.open(LiveSum(plan, order.message, state, asked, reply))
    return reply


def secure_reply(site: Site, bench: Bench, order: PrivateOrder) -> MaskedReply:
    """Compute what the order asks for, and mask it.

    Raises:
        ProtocolAbort: the order is not the plan's, or the sum is at another step.
        VestryError: of policy, ledger, data or training.

    Guarantees:
        Of the update, the loss, the weight and the sums nothing leaves but masked. The journal has the plan
        as consumed, on the disk, before masked words exist. Under [privacy] all of it was charged before.
    """
    seat = _seat(site, bench)
    live = seat.live(order.secure)
    require_study(bench, live.plan)
    asked = ("input", order_hash(bench.digest, order))
    answer = live.again(asked)
    if isinstance(answer, MaskedReply):
        return answer
    require_order(bench, live.plan, order)
    live.require(Ready)
    made: list[Masked] = []

    def seal(clear: ClearReply) -> MaskedReply:
        state, reply = _mask(site, bench, seat, live, clear)
        made.append(state)
        return reply

    if bench.study.privacy is None:
        reply = seal(summand(site, bench, order))
    else:
        reply = private_reply(site, bench, order, seal)
    # Only now: under [privacy] a reply that could not be kept and committed may not be sent.
    live.put(made[0] if made else None, asked, reply)
    return reply


def _mask(
    site: Site, bench: Bench, seat: SecureSeat, live: LiveSum, clear: ClearReply
) -> tuple[Masked, MaskedReply]:
    """A clear reply as this site's words of the sum."""
    study, plan = bench.study, live.plan
    private = site.private(bench) if study.privacy is not None else None
    values: Vector = np.zeros(0, dtype=np.float32)
    sums: Arrays = {}
    spent: tuple[str, ...] = ()
    weight, steps, guarantee = 1, 0, ""
    if isinstance(clear, TrainReply):
        weight = min(int(clear.weight), plan.weight_limit)
        values = _cut(clear.update, study.aggregation.max_update_norm)
        if private is None:
            sums = {
                LOSS: np.array(weight * (clear.loss or 0.0)),
                DIVERGED: np.array(float(clear.loss is None)),
            }
        steps = study.training.local_steps or 0  # those that were taken would tell of a site without rows
        spent = clear.spent
    elif isinstance(clear, StatisticsReply):
        weight = plain_weight(site, bench) if private is None else 1
        sums, guarantee = clear.sums, clear.guarantee
    else:
        sums = clear.sums
    wide = sum_layout(study, bench.task, kind_of(plan)).flatten(sums)
    seed = seat.rounding(plan.kind, plan.round)
    state, header, vector = mask(live.take(Ready), values, weight, wide, seed, seat.journal)
    public = None if private is None else int(private.weight)
    reply = MaskedReply(
        site.name, plan.round, plan.digest.hex(), header, vector, steps, spent, guarantee, public
    )
    return state, reply


def _cut(update: Vector, largest: float) -> Vector:
    """The update with a norm of at most ``largest``: the coordinator cannot see one that is larger.

    Nearly every update is far below the limit. A sum in float32, which needs no copy, is off by less than one
    part in a hundred, so it decides for those; the others are measured and cut in float64.
    """
    with np.errstate(all="ignore"):  # too large for float32: no limit is kept then
        parts = [update[start : start + _BLOCK] for start in range(0, len(update), _BLOCK)]
        squares = math.fsum(float(part @ part) for part in parts)
    if math.sqrt(squares) < 0.99 * largest:
        return update
    cut: Vector = clip_vector(torch.from_numpy(update), largest).numpy().astype(np.float32)
    return cut
