"""Canonical bytes: known encodings by hand, one value one encoding, no two values the same."""

import hashlib
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulations.laboratory import environment
from vestry_privacy.canonical import CanonicalError, canonical_bytes, canonical_hash

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, b"n\0\0\0\0"),
        (True, b"b\0\0\0\1\1"),
        (False, b"b\0\0\0\1\0"),
        (0, b"i\0\0\0\0010"),
        (-12, b"i\0\0\0\3-12"),
        (1.0, b"f\0\0\0\x08\x3f\xf0\0\0\0\0\0\0"),
        ("é", b"s\0\0\0\2\xc3\xa9"),
        (b"\xff", b"x\0\0\0\1\xff"),
        ([], b"l\0\0\0\0"),
        ([1], b"l\0\0\0\6i\0\0\0\0011"),
        ({"a": None}, b"m\0\0\0\x0bs\0\0\0\1an\0\0\0\0"),
    ],
)
def test_encodings_by_hand(value: object, expected: bytes) -> None:
    assert canonical_bytes(value) == expected


def kind(value: object) -> object:
    """The value with its types made visible, as the guarantee counts them."""
    if isinstance(value, dict):
        return ("map", tuple(sorted((key, kind(item)) for key, item in value.items())))
    if isinstance(value, list | tuple):
        return ("list", tuple(kind(item) for item in value))
    if isinstance(value, float):
        return ("float", value + 0.0)
    return (type(value).__name__, value)


@given(plain, plain)
def test_equal_bytes_mean_equal_values_of_equal_types(left: object, right: object) -> None:
    assert (canonical_bytes(left) == canonical_bytes(right)) == (repr(kind(left)) == repr(kind(right)))


@given(st.dictionaries(st.text(max_size=4), st.integers(), min_size=2, max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical_bytes(value) == canonical_bytes(backwards)


def test_look_alikes_differ() -> None:
    values: list[object] = [1, True, 1.0, "1", b"1", [1], {"1": 1}, None, "", [], {}]
    assert len({canonical_bytes(value) for value in values}) == len(values)


def test_lists_and_tuples_and_both_zeros_are_one() -> None:
    assert canonical_bytes([1, 2]) == canonical_bytes((1, 2))
    assert canonical_bytes(0.0) == canonical_bytes(-0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan]])
def test_what_is_no_number_has_no_encoding(value: object) -> None:
    with pytest.raises(CanonicalError, match="not finite"):
        canonical_bytes(value)


@pytest.mark.parametrize(("value", "name"), [({1: 2}, "key type=int"), (object(), "object"), ({1, 2}, "set")])
def test_other_types_are_refused_by_name(value: object, name: str) -> None:
    with pytest.raises(CanonicalError, match=name):
        canonical_bytes(value)


def test_a_hash_is_sha256_of_label_and_value() -> None:
    expected = hashlib.sha256(canonical_bytes(["label/1", {"a": 1}])).hexdigest()
    assert canonical_hash("label/1", {"a": 1}) == expected


def test_labels_keep_objects_apart() -> None:
    assert canonical_hash("a/1", "x") != canonical_hash("a/2", "x")
    assert canonical_hash("a", ["b", "c"]) != canonical_hash("ab", ["c"])


def test_another_process_comes_to_the_same_hash() -> None:
    program = (
        "from vestry_privacy.canonical import canonical_hash\n"
        "print(canonical_hash('x/1', {'b': [1.5, None], 'a': 'é'}))"
    )
    for seed in ("0", "1"):
        settings = {**environment(), "PYTHONHASHSEED": seed}
        said = subprocess.run(
            [sys.executable, "-c", program], env=settings, capture_output=True, text=True, check=True
        )
        assert said.stdout.strip() == canonical_hash("x/1", {"a": "é", "b": [1.5, None]})


def test_the_package_loads_nothing_of_ours_and_no_flower() -> None:
    """Which of its modules may load torch is a rule of tests/test_layout.py."""
    program = (
        "import pkgutil, importlib, sys, vestry_privacy\n"
        "for info in pkgutil.walk_packages(vestry_privacy.__path__, 'vestry_privacy.'):\n"
        "    importlib.import_module(info.name)\n"
        "assert not {'flwr', 'vestry_strategies', 'vestry_client'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True)
