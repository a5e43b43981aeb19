"""Shamir's scheme: any t shares give the secret, fewer allow every secret, what is no share is refused."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vestry_privacy.secagg.errors import BadShare, TooFewSites, ValueRefused
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.shamir import PRIME, SECRET_BYTES, SHARE_BYTES, Combiner, check_share, split

secrets = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)


@st.composite
def schemes(draw: st.DrawFn, most: int = 24) -> tuple[int, list[int], int]:
    """Threshold, holders among 200 sites, and a seed."""
    holders = draw(st.lists(st.integers(0, 199), min_size=1, max_size=most, unique=True))
    return draw(st.integers(1, len(holders))), holders, draw(st.integers(0, 2**32))


def seeded(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes  # noqa: S311


def number(share: bytes) -> int:
    return int.from_bytes(share, "big")


def inverse(value: int) -> int:
    return pow(value, PRIME - 2, PRIME)


def interpolate(points: dict[int, int], place: int) -> int:
    """Lagrange's formula as in the book, at any place: the second method."""
    total = 0
    for x, y in points.items():
        term = y
        for other in points:
            if other != x:
                term = term * (place - other) * inverse(x - other) % PRIME
        total += term
    return total % PRIME


def strong_probable_prime(candidate: int, base: int) -> bool:
    """Miller and Rabin."""
    odd, twos = candidate - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    power = pow(base, odd, candidate)
    return power in {1, candidate - 1} or any(
        pow(base, odd << turn, candidate) == candidate - 1 for turn in range(1, twos)
    )


def test_the_field_has_a_prime_number_of_elements_and_room_for_every_secret() -> None:
    assert all(strong_probable_prime(PRIME, base) for base in range(2, 66))
    assert PRIME > 2 ** (8 * SECRET_BYTES)
    assert 2 ** (8 * (SHARE_BYTES - 1)) <= PRIME < 2 ** (8 * SHARE_BYTES)


@given(secrets, schemes(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_any_t_holders_give_the_secret_back(
    content: bytes, scheme: tuple[int, list[int], int], order: random.Random
) -> None:
    threshold, holders, seed = scheme
    shares = split(Secret(content), threshold, holders, seeded(seed))
    assert set(shares) == set(holders)
    assert all(len(share) == SHARE_BYTES for share in shares.values())
    order.shuffle(holders)
    chosen = holders[:threshold]
    combiner = Combiner(chosen, threshold)
    assert combiner.combine({holder: shares[holder] for holder in chosen}).expose() == content


def test_two_hundred_sites() -> None:
    content = bytes(range(SECRET_BYTES))
    shares = split(Secret(content), 134, range(200), seeded(1))
    for holders in (range(134), range(66, 200), range(199, 65, -1)):
        assert Combiner(holders, 134).combine(shares).expose() == content


@pytest.mark.parametrize("content", [bytes(SECRET_BYTES), b"\xff" * SECRET_BYTES])
def test_the_least_and_the_largest_secret(content: bytes) -> None:
    shares = split(Secret(content), 3, range(5), seeded(2))
    assert Combiner([4, 0, 2], 3).combine(shares).expose() == content


def test_more_shares_than_needed_are_not_looked_at() -> None:
    content = b"s" * SECRET_BYTES
    shares = split(Secret(content), 2, range(4), seeded(3)) | {3: b"no share"}
    combiner = Combiner(range(4), 2)
    assert combiner.holders == (0, 1)
    assert combiner.combine(shares).expose() == content


@given(secrets, secrets, schemes())
@settings(deadline=None, max_examples=60)
def test_fewer_than_t_shares_allow_every_secret(
    content: bytes, other: bytes, scheme: tuple[int, list[int], int]
) -> None:
    """For t - 1 shares and any other secret there is a polynomial, and so coins, that give exactly these."""
    threshold, holders, seed = scheme
    shares = split(Secret(content), threshold, holders, seeded(seed))
    seen = holders[: threshold - 1]
    points = {0: number(other)} | {holder + 1: number(shares[holder]) for holder in seen}
    coins = b"".join(value.to_bytes(SHARE_BYTES, "big") for value in coefficients_of(points)[1:])
    again = split(Secret(other), threshold, holders, fixed(coins))
    assert {holder: again[holder] for holder in seen} == {holder: shares[holder] for holder in seen}


def coefficients_of(points: dict[int, int]) -> list[int]:
    """Of the polynomial through the points, lowest power first."""
    result = [0] * len(points)
    for x, y in points.items():
        term, below = [1], 1
        for other in points:
            if other == x:
                continue
            below = below * (x - other) % PRIME
            shifted, scaled = [0, *term], [value * -other for value in term] + [0]
            term = [(a + b) % PRIME for a, b in zip(shifted, scaled, strict=True)]
        factor = y * inverse(below)
        result = [(a + b * factor) % PRIME for a, b in zip(result, term, strict=True)]
    return result


def fixed(stream: bytes) -> Callable[[int], bytes]:
    """An entropy source that gives these bytes, one after another."""
    place = 0

    def entropy(count: int) -> bytes:
        nonlocal place
        place += count
        assert place <= len(stream)
        return stream[place - count : place]

    return entropy


def test_one_share_alone_is_uniform() -> None:
    """Of 4,096 sharings of one secret the shares fall evenly into sixteen parts of the field."""
    entropy = seeded(4)
    counts = [0] * 16
    for _ in range(4096):
        shares = split(Secret(bytes(SECRET_BYTES)), 2, [7, 8], entropy)
        counts[number(shares[7]) * 16 // PRIME] += 1
    chi_square = sum((count - 256) ** 2 / 256 for count in counts)
    assert chi_square < 44.26  # of 15 degrees of freedom, exceeded once in 10,000 seeds


def test_the_coins_are_read_as_the_protocol_says() -> None:
    """Lowest power first, the first byte masked to one bit, and drawn again where not below p."""
    refused = PRIME.to_bytes(SHARE_BYTES, "big")
    linear = b"\xfe" + (5).to_bytes(32, "big")
    square = b"\xff" + bytes(32)  # 2^256, which is below p
    content = (7).to_bytes(SECRET_BYTES, "big")
    shares = split(Secret(content), 3, [0, 1, 2, 9], fixed(refused + linear + square))
    for holder, share in shares.items():
        x = holder + 1
        assert number(share) == (7 + 5 * x + 2**256 * x * x) % PRIME


@given(secrets, schemes())
@settings(deadline=None, max_examples=30)
def test_combining_agrees_with_the_formula_of_the_book(
    content: bytes, scheme: tuple[int, list[int], int]
) -> None:
    threshold, holders, seed = scheme
    shares = split(Secret(content), threshold, holders, seeded(seed))
    points = {holder + 1: number(share) for holder, share in list(shares.items())[-threshold:]}
    assert interpolate(points, 0) == number(content)
    for holder, share in shares.items():
        assert interpolate(points, holder + 1) == number(share)


def test_a_wrong_share_gives_another_secret_or_is_refused() -> None:
    content = b"s" * SECRET_BYTES
    shares = split(Secret(content), 3, range(3), seeded(5))
    shares[1] = ((number(shares[1]) + 1) % PRIME).to_bytes(SHARE_BYTES, "big")
    assert Combiner(range(3), 3).combine(shares).expose() != content


@pytest.mark.parametrize("value", [2**256, PRIME - 1])
def test_a_number_that_is_no_secret_is_refused(value: int) -> None:
    with pytest.raises(BadShare, match="no secret"):
        Combiner([3], 1).combine({3: value.to_bytes(SHARE_BYTES, "big")})


@pytest.mark.parametrize("length", [0, 1, 32, 34, 66])
def test_a_share_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(BadShare, match=f"{length} bytes"):
        check_share(bytes(length))
    with pytest.raises(BadShare, match=f"{length} bytes"):
        Combiner([0], 1).combine({0: bytes(length)})


@pytest.mark.parametrize("value", [PRIME, PRIME + 1, 2**264 - 1])
def test_a_share_outside_the_field_is_refused(value: int) -> None:
    with pytest.raises(BadShare, match="not in the field"):
        check_share(value.to_bytes(SHARE_BYTES, "big"))
    with pytest.raises(BadShare, match="not in the field"):
        Combiner([0], 1).combine({0: value.to_bytes(SHARE_BYTES, "big")})


@pytest.mark.parametrize("value", [0, 1, 2**256, PRIME - 1])
def test_every_element_of_the_field_is_a_share(value: int) -> None:
    assert check_share(value.to_bytes(SHARE_BYTES, "big")) == value


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_secret_of_another_length_is_not_split(length: int) -> None:
    with pytest.raises(ValueRefused, match=f"{length} bytes"):
        split(Secret(bytes(length)), 2, range(3), seeded(6))


@pytest.mark.parametrize(
    ("threshold", "holders"), [(0, [0, 1]), (-1, [0, 1]), (3, [0, 1]), (1, []), (2, [1, 1]), (1, [-1])]
)
def test_holders_and_thresholds_that_make_no_sense(threshold: int, holders: list[int]) -> None:
    with pytest.raises(ValueRefused):
        split(Secret(bytes(SECRET_BYTES)), threshold, holders, seeded(7))


def test_too_few_holders() -> None:
    with pytest.raises(TooFewSites, match="2 holders gave some, 3 are needed"):
        Combiner([0, 1], 3)
    with pytest.raises(ValueRefused):
        Combiner([0, 0, 1], 3)
    with pytest.raises(BadShare, match="1 holders are missing"):
        Combiner([0, 1], 2).combine({0: bytes(SHARE_BYTES)})


def test_no_message_of_an_error_has_a_share() -> None:
    share = b"\x01" + b"\xab" * 32
    with pytest.raises(BadShare) as refusal:
        Combiner([0], 1).combine({0: share})
    assert "ab" * 4 not in str(refusal.value)
    assert str(number(share))[:8] not in str(refusal.value)
