"""Every random stream of a study is derived from its seed, never carried along.

A stream belongs to a purpose, a site and a round. So a resumed run needs no saved generator, and the
number of worker processes cannot change a result (docs/adr/0005). Not for noise that protects anyone:
that comes from the operating system.
"""

from vestry_privacy.canonical import canonical_hash

__all__ = ["derive_seed"]


def derive_seed(seed: int, purpose: str, *labels: str | int) -> int:
    """Derive the seed of one stream.

    Args:
        seed: the study's seed.
        purpose: what the stream is for, such as ``"batches"``.
        labels: what tells this stream from others of the purpose, such as site name and round.

    Returns:
        An integer in [0, 2**63), fit for ``torch.manual_seed`` and ``numpy.random.default_rng``.
    """
    return int(canonical_hash("vestry-seed/1", [seed, purpose, *labels])[:16], 16) >> 1
