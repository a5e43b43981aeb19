"""Per-unit clipping: no privacy unit moves a sum by more than C, whatever its records hold.

Norms, factors and sums are float64. The squares of float32 values neither overflow nor vanish there, and
the rounding of a sum (2^-53 of its largest part, times the number of parts) stays far inside the margin.

Symbols: C clipping norm, g_u gradient of unit u (mean over its records), f_u its factor.
Source: Abadi et al., CCS 2016, arXiv:1607.00133, algorithm 1; per patient instead of per record.
"""

import math

import torch

__all__ = ["MARGIN", "clip_factors", "clip_vector"]

MARGIN = 2.0**-20
"""Taken off C, so that the rounding of norms, factors and sums stays inside the bound."""


def clip_factors(squared_norms: torch.Tensor, clip: float) -> torch.Tensor:
    """What each unit's gradient is multiplied by.

    Args:
        squared_norms: (u,) squared L2 norms, float64.
        clip: C.

    Returns:
        (u,) float64 f_u = min(1, C (1 - margin) / norm), 0 where the norm is not finite and only there.

    Raises:
        ValueError: C is not above 0 and finite.

    Guarantees:
        f_u times the norm is at most C (1 - margin), up to 2^-52. A unit that is not finite counts as
        zero, as if it were not in the batch.
    """
    bound = _bound(clip)
    norms = squared_norms.to(torch.float64).sqrt()
    factors = norms.new_full((), bound) / norms.clamp_min(bound)  # a tensor, for one rounding, not two
    return factors.nan_to_num_(nan=0.0)  # of an infinite norm it is 0 already


def clip_vector(vector: torch.Tensor, clip: float) -> torch.Tensor:
    """One vector (d,) scaled to an L2 norm of at most C (1 - margin), in float64; zeros if it is not finite.

    Raises:
        ValueError: C is not above 0 and finite.

    Guarantees:
        The result's L2 norm is at most C.
    """
    bound = _bound(clip)
    values = vector.to(torch.float64)
    largest = float(values.abs().max()) if values.numel() else 0.0
    if not 0 < largest < math.inf:  # of zeros, an infinity or nan
        return torch.zeros_like(values)
    norm = float(torch.linalg.vector_norm(values / largest))  # of values at most 1: no overflow
    return values * min(1.0, bound / largest / norm)


def _bound(clip: float) -> float:
    if not 0 < clip < math.inf:
        raise ValueError(f"clip={clip} must be above 0 and finite")
    return clip * (1.0 - MARGIN)
