"""Derived seeds: one stream for each purpose, site and round."""

from hypothesis import given
from hypothesis import strategies as st

from vestry_privacy.canonical import canonical_hash
from vestry_strategies.seeds import derive_seed

labels = st.lists(st.text(max_size=5) | st.integers(), max_size=3)


@given(st.integers(0, 2**63 - 1), st.text(max_size=8), labels)
def test_a_seed_fits_torch_and_numpy_and_is_always_the_same(
    seed: int, purpose: str, more: list[str | int]
) -> None:
    made = derive_seed(seed, purpose, *more)
    assert 0 <= made < 2**63
    assert made == derive_seed(seed, purpose, *more)


@given(st.lists(st.tuples(st.integers(0, 9), st.text(max_size=3), labels), max_size=30))
def test_streams_do_not_meet(streams: list[tuple[int, str, list[str | int]]]) -> None:
    distinct = {repr(stream) for stream in streams}
    assert len({derive_seed(seed, purpose, *more) for seed, purpose, more in streams}) == len(distinct)


def test_labels_are_not_run_together() -> None:
    assert derive_seed(1, "a", "bc") != derive_seed(1, "a", "b", "c")
    assert derive_seed(1, "a", 1) != derive_seed(1, "a", "1")


def test_a_known_one() -> None:
    expected = int(canonical_hash("vestry-seed/1", [7, "batches", "north", 3])[:16], 16) >> 1
    assert derive_seed(7, "batches", "north", 3) == expected
