"""The reference against known answers and the document's own claims, not against the package."""

import ast
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.privacy.secagg import reference as ref
from tests.privacy.secagg.reference_cases import CASES, Wish, make_case, seed
from tests.privacy.secagg.reference_run import STEPS, perform

HERE = Path(__file__).parent


def test_it_imports_nothing_of_the_package() -> None:
    found = sorted(HERE.glob("reference*.py"))
    assert len(found) >= 5
    for path in found:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not [name for name in names if name.startswith("vestry")], path.name


def test_hkdf_gives_the_answer_of_rfc_5869_case_1() -> None:
    salt, info = bytes.fromhex("000102030405060708090a0b0c"), bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
    assert ref.hkdf(b"\x0b" * 22, salt, info, 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_masks_are_the_stream_of_sp_800_38a() -> None:
    # Counter mode is ECB of the counter; F.1.1 has no zero block, FIPS 197's all-zero answer is known.
    assert ref.ctr(bytes(16), 16).hex() == "66e94bd4ef8a2c3b884cfa59ca342b2e"
    assert ref.ctr(bytes(16), 32)[16:].hex() == "58e2fccefa7e3061367f1d57a4e7455a"


def test_stream_is_sha_256_of_seed_and_counter() -> None:
    draw, source = ref.stream(seed("x")), seed("x")
    assert draw(40) + draw(24) == ref.hashed(source + ref.u64(0)) + ref.hashed(source + ref.u64(1))


def test_prime_has_no_small_factor_and_passes_fermat() -> None:
    assert ref.PRIME == 2**256 + 297
    assert all(pow(base, ref.PRIME - 1, ref.PRIME) == 1 for base in (2, 3, 5, 7, 11, 13))


@given(st.binary(min_size=32, max_size=32), st.integers(2, 6))
def test_any_threshold_of_shares_makes_the_secret_and_fewer_do_not(secret: bytes, threshold: int) -> None:
    shares = ref.share_out(secret, threshold, range(threshold + 1), ref.stream(secret))
    for chosen in combinations(shares, threshold):
        assert ref.reconstruct({at: shares[at] for at in chosen}) == secret
    try:
        fewer = ref.reconstruct({at: shares[at] for at in range(threshold - 1)})
    except OverflowError:  # a number of 33 bytes: no secret either
        return
    assert fewer != secret


@pytest.mark.parametrize(
    ("sites", "bits", "value_bits"),
    [(3, 21, 19), (4, 16, 14), (4, 21, 19), (5, 21, 18), (10, 32, 28), (200, 16, 8)],
)
def test_lanes_cannot_overflow_and_no_wider_value_would_fit(sites: int, bits: int, value_bits: int) -> None:
    plan = make_case(Wish("ring", "", sites, {}, lane_bits=bits)).plan
    assert plan.top == 2**value_bits - 1
    assert sites * plan.top < 2**bits <= sites * (2 * plan.top + 1)


@pytest.mark.parametrize("wish", [wish for wish in CASES if not wish.spoils], ids=lambda wish: wish.name)
def test_what_is_left_of_a_run_is_the_sum_of_the_survivors(wish: Wish) -> None:
    run = perform(make_case(wish))
    assert len(run.u3) >= run.case.plan.threshold
    left = [sum(column) % 2**64 for column in zip(*(run.plain[at] for at in run.u3), strict=True)]
    assert run.words == left
    assert all(run.masked[at] != run.plain[at] for at in run.u3)
    seats, plan = [run.case.seats[at] for at in run.u3], run.case.plan
    assert run.weight == sum(seat.weight for seat in seats)
    error = len(seats) * 2 * Fraction(plan.value_range) / plan.top * plan.weight_limit
    for place, value in enumerate(run.values):
        exact = sum(Fraction(seat.values[place]) * seat.weight for seat in seats)
        assert abs(value - exact) < error
    for place, value in enumerate(run.wide):
        assert abs(value - sum(Fraction(seat.wide[place]) for seat in seats)) <= Fraction(len(seats), 2**61)


@pytest.mark.parametrize("wish", [wish for wish in CASES if wish.spoils], ids=lambda wish: wish.name)
def test_a_dealer_of_another_secret_is_convicted_only_where_it_shows(wish: Wish) -> None:
    run = perform(make_case(wish))
    left = [sum(column) % 2**64 for column in zip(*(run.plain[at] for at in run.u3), strict=True)]
    assert (run.words == left) == (run.convicted is None)
    assert (run.convicted is None) == wish.name.startswith("good")


def test_values_saturate_and_are_never_refused() -> None:
    plan = make_case(Wish("ends", "", 4, {}, values=6, weight_limit=1)).plan
    values = [float("inf"), float("nan"), -float("inf"), 1e30, -1e30, 8.0]
    words = ref.quantise(plan, values, 1, [], seed("ends"))
    lanes = [words[place % 2] >> (place // 2 * 21) & (2**21 - 1) for place in range(6)]
    middle = plan.top // 2
    assert all(lane in (middle, middle + 1) for lane in lanes[:3])
    assert lanes[3:] == [plan.top, 0, plan.top]


def test_wide_values_saturate_below_their_offset() -> None:
    plan = make_case(Wish("wide-ends", "", 3, {}, values=0, wide=4)).plan
    words = ref.quantise(plan, [], 1, [1e300, -1e300, float("nan"), -0.5], seed("wide-ends"))
    _, _, wide = ref.unquantise(plan, words, 1)
    assert wide == [Fraction(2**119 - 1, 2**60), Fraction(1 - 2**119, 2**60), 0, Fraction(-1, 2)]


def test_the_cases_hold_every_leaving_step_lane_and_kind() -> None:
    assert {step for wish in CASES for step in wish.leaves.values()} == set(STEPS)
    assert {wish.lane_bits for wish in CASES} == {16, 21, 32}
    assert {wish.kind for wish in CASES} == {"statistics", "train", "evaluate"}
    assert {wish.sites for wish in CASES} == {3, 4, 5, 10}
