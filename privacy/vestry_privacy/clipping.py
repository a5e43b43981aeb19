"""Per-unit clipping: no privacy unit moves a sum by more than C, whatever its records hold.

Symbols: C clipping norm, g_u gradient of unit u (mean over its records), f_u its factor.
Source: Abadi et al., CCS 2016, arXiv:1607.00133, algorithm 1; per patient instead of per record.
"""

import torch

__all__ = ["MARGIN", "clip_factors", "clip_vector"]

MARGIN = 2.0**-14
"""Taken off C, so that the rounding of float32 sums and norms (2e-5 seen) stays inside the bound."""


def clip_factors(squared_norms: torch.Tensor, clip: float) -> torch.Tensor:
    """What each unit's gradient is multiplied by.

    Args:
        squared_norms: (u,) squared L2 norms.
        clip: C.

    Returns:
        (u,) float32 f_u = min(1, C (1 - margin) / norm), 0 where the norm is not finite.

    Guarantees:
        f_u times the norm is at most C (1 - margin). A unit that is not finite counts as zero, as if it
        were not in the batch.
    """
    norms = squared_norms.to(torch.float32).sqrt()
    bound = clip * (1.0 - MARGIN)
    factors = (bound / norms.clamp_min(bound)).clamp_max(1.0)
    return torch.where(torch.isfinite(norms), factors, torch.zeros_like(factors))


def clip_vector(vector: torch.Tensor, clip: float) -> torch.Tensor:
    """One vector (d,) scaled to an L2 norm of at most C (1 - margin); zeros if it is not finite.

    Guarantees:
        The result's L2 norm is at most C.
    """
    values = vector.to(torch.float64)
    factor = clip_factors((values**2).sum().reshape(1), clip)[0]
    if not float(factor) > 0:
        return torch.zeros_like(values)
    return values * factor.to(torch.float64)
