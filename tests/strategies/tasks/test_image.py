"""Images from arrays: shapes, ranges, no pickles, standardisation over all sites' pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.strategies.samples import image_study
from vestry_strategies.bounded import BoundedSums
from vestry_strategies.rows import ContractViolation, DataFileError
from vestry_strategies.sums import Sums, add_sums
from vestry_strategies.task import Design
from vestry_strategies.tasks.image import IMAGE, ImageArrays

STUDY = image_study()


def images(count: int = 20, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "images": generator.integers(0, 256, (count, 6, 4, 2), dtype=np.uint8),
        "labels": generator.integers(0, 3, count),
        "site": np.array(["a", "b"] * (count // 2)),
    }


def read(path: Path, **arrays: Any) -> ImageArrays:
    np.savez(path, **{**images(), **arrays})
    rows = IMAGE.features.read(STUDY, path)
    assert isinstance(rows, ImageArrays)
    return rows


def design(rows: Any) -> Design:
    return IMAGE.features.design(STUDY, rows)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images.npz"


def test_pixels_are_scaled_and_channels_come_first(path: Path) -> None:
    rows = read(path)
    found = design(rows)
    assert found.inputs.shape == (20, 2, 6, 4)
    np.testing.assert_allclose(found.inputs[3, 1], images()["images"][3, :, :, 1] / 255, rtol=1e-6)
    assert found.targets.tolist() == images()["labels"].tolist()


def test_grey_images_need_no_channel(path: Path) -> None:
    study = image_study(("channels = 2", "channels = 1"))
    np.savez(path, images=np.zeros((5, 6, 4)), labels=np.zeros(5, dtype=int))
    found = IMAGE.features.design(study, IMAGE.features.read(study, path))
    assert found.inputs.shape == (5, 1, 6, 4)


def test_rows_are_taken_and_split_by_a_column(path: Path) -> None:
    rows = read(path)
    assert IMAGE.features.column(rows, "site").tolist() == ["a", "b"] * 10
    assert len(rows.take(np.array([1, 3], dtype=np.int64))) == 2
    with pytest.raises(DataFileError, match="one value a row is needed"):
        IMAGE.features.column(rows, "images")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": np.zeros((20, 5, 4, 2))}, r"images of shape \(5, 4, 2\); the study says"),
        ({"images": np.zeros((20, 6, 4))}, "the study says height, width, channels"),
        ({"labels": np.zeros(3, dtype=int)}, "same number of rows"),
        ({"extra": np.array(1)}, "same number of rows"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(path: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(DataFileError, match=said):
        design(read(path, **arrays))


def test_pixels_out_of_range_are_refused(path: Path) -> None:
    wrong = images()["images"].astype(np.float32)
    wrong[:12, 0, 0, 0] = 256
    with pytest.raises(ContractViolation, match=r"12 rows break the rule: pixels in the range \[0, 255\]"):
        design(read(path, images=wrong))
    wrong[:12, 0, 0, 0] = np.nan
    with pytest.raises(ContractViolation, match="12 rows"):
        design(read(path, images=wrong))


def test_unknown_labels_are_refused(path: Path) -> None:
    with pytest.raises(ContractViolation, match=r"one of the classes \['0', '1', '2'\]"):
        design(read(path, labels=np.full(20, 7)))


def test_an_array_that_is_missing_is_named(path: Path) -> None:
    np.savez(path, pictures=images()["images"], labels=images()["labels"])
    with pytest.raises(DataFileError, match="array 'images' is missing; the file has: pictures, labels"):
        design(IMAGE.features.read(STUDY, path))


def test_files_that_are_none_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="there is no such file"):
        IMAGE.features.read(STUDY, path)
    path.write_bytes(b"no zip")
    with pytest.raises(DataFileError, match=r"is no \.npz file"):
        IMAGE.features.read(STUDY, path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataFileError, match=r"is no \.npz file"):
        IMAGE.features.read(STUDY, tmp_path / "one.npy")


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('a pickle was opened')",))


def test_pickles_are_never_opened(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, images=np.array([Trap()], dtype=object))
    with pytest.raises(DataFileError, match=r"is no \.npz file of plain arrays"):
        IMAGE.features.read(STUDY, path)


def test_channels_are_standardised_over_all_sites(path: Path) -> None:
    whole = design(read(path))
    parts = [whole.take(np.arange(7)), whole.take(np.arange(7, 20))]
    fitted = IMAGE.features.fit(STUDY, add_sums(IMAGE.features.statistics(STUDY, part) for part in parts))
    pixels = images()["images"].astype(np.float64) / 255
    np.testing.assert_allclose(fitted["mean"], pixels.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(fitted["scale"], pixels.std(axis=(0, 1, 2)), rtol=1e-5)
    examples = IMAGE.features.encode(STUDY, fitted, whole)
    np.testing.assert_allclose(examples.inputs.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(examples.inputs.std(axis=(0, 2, 3)), 1, rtol=1e-4)


def test_without_standardisation_pixels_lie_between_zero_and_one(path: Path) -> None:
    study = image_study(('kind = "image"', 'kind = "image"\nstandardise = "none"'))
    whole = design(read(path))
    fitted = IMAGE.features.fit(study, IMAGE.features.statistics(study, whole))
    examples = IMAGE.features.encode(study, fitted, whole)
    assert np.array_equal(examples.inputs, whole.inputs)


def test_one_grey_value_everywhere_does_no_harm(path: Path) -> None:
    whole = design(read(path, images=np.full((20, 6, 4, 2), 9)))
    fitted = IMAGE.features.fit(STUDY, IMAGE.features.statistics(STUDY, whole))
    assert np.isfinite(IMAGE.features.encode(STUDY, fitted, whole).inputs).all()


def bounded(pixels: np.ndarray) -> BoundedSums:
    make = IMAGE.features.bounded_statistics
    assert make is not None
    return make(STUDY, Design(pixels, np.zeros(len(pixels), dtype=np.int64), np.arange(len(pixels))))


def released(sums: Sums) -> dict[str, np.ndarray]:
    fit = IMAGE.features.fit_released
    assert fit is not None
    return dict(fit(STUDY, sums))


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(0, 4), st.just(2), st.just(6), st.just(4)),
        elements=st.floats(0, 1, width=32),
    )
)
def test_no_image_moves_the_released_sums_by_more_than_the_bound(pixels: np.ndarray) -> None:
    made = bounded(pixels)
    assert (np.linalg.norm(made.values, axis=1) <= made.bound * (1 + 1e-9)).all()
    assert made.bound == pytest.approx(5**0.5)  # a person, two means and two mean squares of at most 1
    assert {name: part.shape for name, part in made.read(made.values.sum(axis=0)).items()} == {
        "persons": (1,), "sum": (2,), "sum_of_squares": (2,),
    }  # fmt: skip


def test_without_noise_images_are_standardised_as_by_exact_sums(path: Path) -> None:
    whole = design(read(path))
    made = bounded(whole.inputs)
    found = released(made.read(made.values.sum(axis=0)))
    exact = IMAGE.features.fit(STUDY, IMAGE.features.statistics(STUDY, whole))
    np.testing.assert_allclose(found["mean"], exact["mean"], rtol=1e-6)
    np.testing.assert_allclose(found["scale"], exact["scale"], rtol=1e-5)


wild = arrays(np.float64, 2, elements=st.floats(allow_nan=False, allow_infinity=False))


@settings(max_examples=100, deadline=None)
@given(wild, wild, wild)
def test_released_statistics_of_images_stay_in_range_whatever_the_noise(
    persons: np.ndarray, total: np.ndarray, squares: np.ndarray
) -> None:
    found = released({"persons": persons[:1], "sum": total, "sum_of_squares": squares})
    assert ((found["mean"] >= 0) & (found["mean"] <= 1)).all()
    assert ((found["scale"] >= 0.01) & (found["scale"] <= 1)).all()


def test_nothing_released_takes_declared_constants() -> None:
    assert {name: part.tolist() for name, part in released({}).items()} == {
        "mean": [0.5, 0.5],
        "scale": [0.5, 0.5],
    }
    declared = image_study(('kind = "image"', 'kind = "image"\nstandardise = "declared"'))
    exact = IMAGE.features.statistics(declared, Design(np.ones((3, 2, 6, 4)), np.zeros(3, int), np.arange(3)))
    assert IMAGE.features.fit(declared, exact)["mean"].tolist() == [0.5, 0.5]


def test_a_blank_design_is_one_of_no_images(path: Path) -> None:
    assert IMAGE.features.blank is not None
    blank, none = IMAGE.features.blank(STUDY), design(read(path)).take(np.zeros(0, dtype=np.int64))
    assert (blank.inputs.shape, blank.inputs.dtype) == (none.inputs.shape, none.inputs.dtype)
    assert (blank.targets.dtype, blank.kept.dtype) == (none.targets.dtype, none.kept.dtype)
