"""Dealing rows to sites: every row once, no empty site, skew that follows alpha, readable refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vestry_simulations.partition import (
    Partition,
    PartitionError,
    parse_partition,
    partition_by_column,
    partition_rows,
)

LABELS = np.repeat([0, 1, 2, 3], 100)


@settings(max_examples=60, deadline=None)
@given(
    text=st.sampled_from(["iid", "dirichlet:0.5", "dirichlet:5", "quantity:2"]),
    sites=st.integers(2, 8),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_row_goes_to_one_site_and_no_site_is_empty(text: str, sites: int, seed: int) -> None:
    parts = partition_rows(parse_partition(text), sites, len(LABELS), LABELS, seed)
    assert len(parts) == sites
    assert all(len(part) for part in parts.values())
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(LABELS)))
    again = partition_rows(parse_partition(text), sites, len(LABELS), LABELS, seed)
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


def test_another_seed_deals_otherwise() -> None:
    one, two = (partition_rows(Partition("iid"), 3, 60, None, seed) for seed in (1, 2))
    assert any(not np.array_equal(one[name], two[name]) for name in one)


def test_iid_sites_are_of_equal_size() -> None:
    parts = partition_rows(Partition("iid"), 7, 100, None, 0)
    assert sorted(len(part) for part in parts.values()) == [14, 14, 14, 14, 14, 15, 15]


def test_names_sort_as_numbers() -> None:
    parts = partition_rows(Partition("iid"), 12, 100, None, 0)
    assert list(parts)[:2] == ["site-01", "site-02"]
    assert sorted(parts) == list(parts)


def skew(alpha: float) -> float:
    """Mean total variation distance between a site's classes and those of all rows, over 20 draws."""
    distances = []
    for seed in range(20):
        parts = partition_rows(Partition("dirichlet", alpha), 5, len(LABELS), LABELS, seed)
        for part in parts.values():
            share = np.bincount(LABELS[part], minlength=4) / len(part)
            distances.append(np.abs(share - 0.25).sum() / 2)
    return float(np.mean(distances))


def test_labels_are_the_more_skewed_the_smaller_alpha_is() -> None:
    assert skew(0.1) > skew(1.0) > skew(10.0) > skew(1000.0)
    assert skew(0.1) > 0.5
    assert skew(1000.0) < 0.06


def test_sizes_are_the_more_skewed_the_smaller_alpha_is() -> None:
    def spread(alpha: float) -> float:
        sizes = [
            len(part)
            for seed in range(20)
            for part in partition_rows(Partition("quantity", alpha), 5, 1000, None, seed).values()
        ]
        return float(np.std(sizes))

    assert spread(0.5) > spread(5.0) > spread(500.0)


@pytest.mark.parametrize("text", ["iid", "dirichlet:0.5", "quantity:2"])
def test_what_is_read_is_written_again(text: str) -> None:
    assert parse_partition(text).text() == text


@pytest.mark.parametrize(
    "text", ["", "iid:3", "dirichlet", "dirichlet:", "dirichlet:0", "dirichlet:inf", "quantity:-1", "x:1"]
)
def test_what_is_no_partition_is_refused(text: str) -> None:
    with pytest.raises(PartitionError, match=r"use iid, dirichlet:ALPHA or quantity:ALPHA"):
        parse_partition(text)


def test_refusals_name_what_is_wrong() -> None:
    with pytest.raises(PartitionError, match="at least 2 sites"):
        partition_rows(Partition("iid"), 1, 10, None, 0)
    with pytest.raises(PartitionError, match="more than the fewer than 10 rows"):
        partition_rows(Partition("iid"), 12, 9, None, 0)
    with pytest.raises(PartitionError, match="needs a target with classes"):
        partition_rows(Partition("dirichlet", 1.0), 2, 10, None, 0)
    with pytest.raises(PartitionError, match="left a site empty in 200 draws"):
        partition_rows(Partition("quantity", 0.001), 50, 60, None, 0)


def test_each_value_of_a_column_is_a_site() -> None:
    parts = partition_by_column(np.array(["b", "10", "b", "9"]), "clinic")
    assert {name: part.tolist() for name, part in parts.items()} == {"9": [3], "10": [1], "b": [0, 2]}


def test_a_column_must_tell_sites_apart() -> None:
    with pytest.raises(PartitionError, match="column 'clinic' is empty in fewer than 10 rows"):
        partition_by_column(np.array(["a", "", "b"]), "clinic")
    with pytest.raises(PartitionError, match="at least 2 sites"):
        partition_by_column(np.array(["a", "a"]), "clinic")
