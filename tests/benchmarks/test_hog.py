"""Oriented gradients against a slow second method, their symmetries, and features of one's own image only."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.hog import centred, coarse_pixels, oriented_gradients


def noise(images: int, side: int = 14, seed: int = 3) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random((images, side, side))


def slowly(image: NDArray[np.float64], cell: int, bins: int) -> list[float]:
    """The same, pixel by pixel."""
    side = len(image)
    padded = np.pad(image, 1)
    cells = np.zeros((side // cell, side // cell, bins))
    for i in range(side):
        for j in range(side):
            down = (padded[i + 2, j + 1] - padded[i, j + 1]) / 2
            right = (padded[i + 1, j + 2] - padded[i + 1, j]) / 2
            place = math.atan2(down, right) % (2 * math.pi) / (2 * math.pi) * bins
            first, part = int(place) % bins, place - int(place)
            for a in range(len(cells)):
                for b in range(len(cells)):
                    near = max(0.0, 1 - abs((i + 0.5) / cell - a - 0.5))
                    near *= max(0.0, 1 - abs((j + 0.5) / cell - b - 0.5))
                    cells[a, b, first] += (1 - part) * near * math.hypot(down, right)
                    cells[a, b, (first + 1) % bins] += part * near * math.hypot(down, right)
    found: list[float] = []
    for a in range(len(cells) - 1):
        for b in range(len(cells) - 1):
            block = cells[a : a + 2, b : b + 2].ravel()
            block = np.minimum(block / math.sqrt((block**2).sum() + 1e-4), 0.2)
            found += (block / math.sqrt((block**2).sum() + 1e-4)).tolist()
    return found


@pytest.mark.parametrize(("side", "cell", "bins"), [(14, 7, 12), (12, 4, 9), (6, 2, 4)])
def test_gradients_equal_those_counted_pixel_by_pixel(side: int, cell: int, bins: int) -> None:
    (image,) = noise(1, side)
    np.testing.assert_allclose(oriented_gradients(image[None], cell, bins)[0], slowly(image, cell, bins))


def test_size_is_four_cells_a_block() -> None:
    assert oriented_gradients(noise(2, 28)).shape == (2, 3 * 3 * 4 * 12)


@pytest.mark.parametrize("turns", range(4))
def test_slope_votes_for_its_own_direction(turns: int) -> None:
    """A slope to the right, turned by quarters, votes for direction 0, 3, 6 and 9 of 12 in the middle."""
    slope = np.rot90(np.tile(np.arange(20.0), (20, 1)), -turns)
    block = oriented_gradients(slope[None], cell=4, bins=12).reshape(4, 4, 4, 12)[1, 2]
    assert set(np.flatnonzero(block.max(axis=0) > 1e-9)) == {3 * turns}


def test_direction_between_two_is_shared() -> None:
    down, right = np.mgrid[:20, :20]
    slope = right * math.cos(math.pi / 12) + down * math.sin(math.pi / 12)  # 15 degrees, between 0 and 30
    block = oriented_gradients(slope[None], cell=4, bins=12).reshape(4, 4, 4, 12)[1, 1]
    np.testing.assert_allclose(block[:, 0], block[:, 1])
    assert np.abs(block[:, 2:]).max() < 1e-9


def test_mirrored_image_has_mirrored_directions() -> None:
    """Blocks, cells and directions all change sides: direction k becomes half a turn less k."""
    images = noise(3)
    plain = oriented_gradients(images, cell=2, bins=8).reshape(3, 6, 6, 2, 2, 8)
    mirrored = oriented_gradients(images[:, :, ::-1], cell=2, bins=8).reshape(3, 6, 6, 2, 2, 8)
    turned = plain[:, :, ::-1, :, ::-1][..., (4 - np.arange(8)) % 8]
    np.testing.assert_allclose(mirrored, turned, atol=1e-12)


def test_contrast_hardly_counts_and_black_is_nothing() -> None:
    images = noise(2)
    np.testing.assert_allclose(oriented_gradients(images), oriented_gradients(images / 2), atol=1e-4)
    assert not oriented_gradients(np.zeros((1, 14, 14))).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_blocks_have_a_norm_of_at_most_1(seed: int) -> None:
    found = oriented_gradients(noise(2, seed=seed), cell=2, bins=6)
    assert found.min() >= 0.0
    assert np.linalg.norm(found.reshape(2, 36, 24), axis=2).max() <= 1.0


@pytest.mark.parametrize("features", [oriented_gradients, coarse_pixels])
def test_image_depends_on_no_other_image(features: object) -> None:
    assert callable(features)
    images = noise(4)
    together = features(images)
    changed = features(np.concatenate([images[:1], noise(3, seed=9)]))
    np.testing.assert_array_equal(together[0], changed[0])
    assert not np.array_equal(together[1], changed[1])


def test_coarse_pixel_is_a_mean_and_reaches_to_its_neighbours_half() -> None:
    whole = coarse_pixels(np.ones((1, 8, 8))).reshape(4, 4)
    np.testing.assert_allclose(whole[1:3, 1:3], 1.0)
    dot = np.zeros((1, 8, 8))
    dot[0, 2, 2] = 1.0
    expected = np.zeros((4, 4))
    expected[:2, :2] = [[1 / 64, 3 / 64], [3 / 64, 9 / 64]]
    np.testing.assert_allclose(coarse_pixels(dot).reshape(4, 4), expected)


@pytest.mark.parametrize("features", [oriented_gradients, coarse_pixels])
def test_cell_that_does_not_divide_the_image_is_refused(features: object) -> None:
    assert callable(features)
    with pytest.raises(ValueError, match="cell=3 must divide 14 pixels"):
        features(noise(1), 3)


def test_centred_rows_have_mean_0_and_norm_1() -> None:
    rows = centred(np.concatenate([noise(3).reshape(3, -1), np.full((1, 196), 0.7)]))
    np.testing.assert_allclose(rows.mean(axis=1), 0.0, atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1.0, 1.0, 1.0, 0.0])
