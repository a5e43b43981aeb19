"""Features of small grey images, each from its own image only: coarse pixels, and oriented gradients.

Histograms of oriented gradients after Dalal and Triggs, CVPR 2005: gradients by central differences, each
pixel's magnitude shared between the two nearest of b directions over the whole circle (section 6.3) and
between the nearest cells (bilinear, section 6.4), cells gathered in overlapping blocks of 2 x 2, each scaled
by L2-Hys: to norm 1, cut at .2, to norm 1 again (section 6.4).

Nothing here is fitted: what comes out for one image does not depend on any other, so it costs no privacy.

Symbols: n images of H x W, c cells of a side, b bins.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["centred", "coarse_pixels", "oriented_gradients"]

Features = NDArray[np.float64]
_CUT = 0.2
_FLOOR = 0.01


def centred(values: Features) -> Features:
    """Each row (n, d) less its own mean, then scaled to an L2 norm of 1; a row without contrast is zero."""
    shifted = values - values.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(shifted, axis=1, keepdims=True)
    scaled: Features = shifted / np.where(norms > 1e-9, norms, np.inf)
    return scaled


def coarse_pixels(images: Features, cell: int = 2) -> Features:
    """Images (n, H, W) averaged to cells, (n, (H / cell) (W / cell)); neighbouring cells overlap.

    Raises:
        ValueError: H or W is no multiple of ``cell``.
    """
    rows, columns = _cells(images.shape[1], cell), _cells(images.shape[2], cell)
    pooled: Features = _pooled(images, rows, columns).reshape(len(images), -1) / cell**2
    return pooled


def oriented_gradients(images: Features, cell: int = 7, bins: int = 12) -> Features:
    """Histograms of oriented gradients.

    Args:
        images: (n, H, W) in [0, 1].
        cell: pixels of a cell's side.
        bins: directions over the whole circle.

    Returns:
        (n, (H / cell - 1) (W / cell - 1) 4 bins), not below 0; each block's norm is at most 1.

    Raises:
        ValueError: H or W is no multiple of ``cell``.
    """
    rows, columns = _cells(images.shape[1], cell), _cells(images.shape[2], cell)
    down, right = _gradients(images)
    magnitude = np.hypot(down, right)
    place = np.arctan2(down, right) / (2 * np.pi) % 1.0 * bins
    cells = np.stack(
        [_pooled(magnitude * _share(place, number, bins), rows, columns) for number in range(bins)], axis=-1
    )
    blocks = [
        cells[:, i : i + 2, j : j + 2].reshape(len(images), -1)
        for i in range(cells.shape[1] - 1)
        for j in range(cells.shape[2] - 1)
    ]
    return np.concatenate([_scaled(np.minimum(_scaled(block), _CUT)) for block in blocks], axis=1)


def _gradients(images: Features) -> tuple[Features, Features]:
    """Central differences down and to the right, (n, H, W) each; outside the image is black."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    right = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    return down, right


def _cells(pixels: int, cell: int) -> Features:
    """(c, pixels) how much of each pixel counts for each cell: falls linearly to the next cell's centre."""
    if pixels % cell:
        raise ValueError(f"cell={cell} must divide {pixels} pixels")
    centre = (np.arange(pixels) + 0.5) / cell - 0.5
    return np.maximum(0.0, 1.0 - np.abs(centre[None] - np.arange(pixels // cell)[:, None]))


def _share(place: Features, number: int, bins: int) -> Features:
    """How much of each pixel is a vote for one direction; the last is beside the first."""
    distance = np.abs(place - number)
    share: Features = np.maximum(0.0, 1.0 - np.minimum(distance, bins - distance))
    return share


def _pooled(values: Features, rows: Features, columns: Features) -> Features:
    """(n, H, W) gathered to cells, (n, c, c)."""
    pooled: Features = rows @ values @ columns.T
    return pooled


def _scaled(block: Features) -> Features:
    scaled: Features = block / np.sqrt((block**2).sum(axis=1, keepdims=True) + _FLOOR**2)
    return scaled
