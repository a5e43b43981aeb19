"""From the shares that sites reveal to the sum without masks: the server's last step.

Guarantees:
    A self mask is taken away of a survivor, a pair mask only between a survivor and a lost site, so nothing
    but the survivors' sum can be had from shares of one kind for each site.

    ProtocolAbort
    ├── BadShare      a holder gave a share that is not what was dealt
    └── BadDealing    a dealer's shares make another secret than it committed to
"""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from vestry_privacy.secagg.errors import BadDealing, BadShare
from vestry_privacy.secagg.keys import (
    KeyPair,
    commitment,
    pair_mask_key,
    public_key_of,
    same,
    seed_commitment,
    self_mask_key,
)
from vestry_privacy.secagg.masks import MaskStream, add_masks
from vestry_privacy.secagg.messages import Advertisement, Deal, Revealed
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.shamir import Combiner, check_share

__all__ = ["check_reveal", "check_secret", "combine_secrets", "unmask_sum"]


def check_reveal(
    roster: Roster, revealed: Revealed, deals: Mapping[int, Deal], survivors: Collection[int]
) -> None:
    """Check a holder's shares against the dealers' commitments.

    Args:
        roster: of the plan.
        revealed: the holder's message.
        deals: of U2, in order.
        survivors: U3.

    Raises:
        BadShare: a share is not what was dealt.
    """
    holder = revealed.sender
    for (dealer, deal), share in zip(deals.items(), revealed.shares, strict=True):
        check_share(share)
        alive, entry = dealer in survivors, deal.entry(holder)
        kind = "self-mask" if alive else "pair-mask"
        signed = entry.self_mask if alive else entry.pair_mask
        if not same(commitment(roster.plan_hash, dealer, holder, kind, share), signed):
            raise BadShare(
                "revealed share", f"of '{roster.names[dealer]}' is not what was dealt",
                round=roster.plan.round, peer=roster.names[holder],
            )  # fmt: skip


def combine_secrets(
    roster: Roster, deals: Mapping[int, Deal], revealed: Mapping[int, Revealed]
) -> dict[int, Secret]:
    """For each dealer the secret whose shares were revealed: b of a survivor, a of a lost site.

    Raises:
        BadDealing: the shares are on no polynomial of a secret.
    """
    combiner = Combiner(tuple(revealed), roster.plan.threshold)
    secrets: dict[int, Secret] = {}
    for place, dealer in enumerate(deals):
        try:
            secrets[dealer] = combiner.combine(
                {holder: revealed[holder].shares[place] for holder in combiner.holders}
            )
        except BadShare:
            raise _bad_dealing(roster, dealer) from None
    return secrets


def check_secret(
    roster: Roster, dealer: int, secret: Secret, advertised: Advertisement, deal: Deal, *, alive: bool
) -> None:
    """Hold a combined secret against what its dealer signed.

    Raises:
        BadDealing: it is another one.
    """
    if alive:
        good = same(seed_commitment(roster.plan_hash, dealer, secret), deal.seed)
    else:
        good = same(public_key_of(secret), advertised.mask_public)
    if not good:
        raise _bad_dealing(roster, dealer)


def unmask_sum(
    roster: Roster,
    total: NDArray[np.uint64],
    advertised: Mapping[int, Advertisement],
    deals: Mapping[int, Deal],
    survivors: Collection[int],
    revealed: Mapping[int, Revealed],
) -> None:
    """Take the masks away, in place.

    Args:
        roster: of the plan.
        total: (words,) sum of the survivors' masked words; becomes the sum of their words.
        advertised: keys of U1.
        deals: of U2, in order.
        survivors: U3.
        revealed: checked messages of at least t survivors.

    Raises:
        BadDealing: see :func:`combine_secrets` and :func:`check_secret`; ``total`` is useless then.
    """
    plan_hash, plus, minus = roster.plan_hash, list[Secret](), list[Secret]()
    for dealer, secret in combine_secrets(roster, deals, revealed).items():
        alive = dealer in survivors
        check_secret(roster, dealer, secret, advertised[dealer], deals[dealer], alive=alive)
        if alive:
            minus.append(self_mask_key(plan_hash, secret, dealer))
            secret.wipe()
            continue
        lost = KeyPair(secret)
        for site in survivors:
            # The survivor added this mask if its index is the lower one, else it subtracted it.
            key = pair_mask_key(plan_hash, lost, dealer, advertised[site].mask_public, site)
            (minus if site < dealer else plus).append(key)
        lost.wipe()
    add_masks(total, [MaskStream(key) for key in plus], [MaskStream(key) for key in minus])


def _bad_dealing(roster: Roster, dealer: int) -> BadDealing:
    return BadDealing(
        "dealt shares", "make another secret than it committed to; the sum is lost",
        round=roster.plan.round, peer=roster.names[dealer],
    )  # fmt: skip
