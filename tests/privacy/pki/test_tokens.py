"""Tokens: one site, one use, a few days; who guesses learns nothing and waits."""

import hmac
import re
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.pki.consortium import DAY, NOW
from vestry_privacy.pki import tokens
from vestry_privacy.pki.errors import RequestRefused, TokenRefused, TooManyAttempts, UnreadableObject
from vestry_privacy.pki.tokens import Invitation, admit_attempt, invite, later_failures, redeem, token_hash

SECOND = timedelta(seconds=1)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)


def test_a_token_is_used_once() -> None:
    invitation, token = invite("berlin", NOW)
    used = redeem(invitation, "berlin", token, NOW + DAY)
    assert used.used == NOW + DAY
    with pytest.raises(TokenRefused) as refused:
        redeem(used, "berlin", token, NOW + DAY)
    assert "was used on 2026-03-02" in refused.value.reason


def test_a_token_has_160_random_bits_and_is_not_stored() -> None:
    invitation, token = invite("berlin", NOW)
    assert re.fullmatch(r"([A-Z2-7]{4}-){7}[A-Z2-7]{4}", token)
    assert len(token.replace("-", "")) * 5 == 160
    assert token.encode() not in invitation.encode()
    assert token.replace("-", "").encode() not in invitation.encode()
    assert token not in repr(invitation)
    assert len({invite("berlin", NOW)[1] for _ in range(50)}) == 50


def test_known_token() -> None:
    """RFC 4648: base 32 of 20 zero bytes is 32 times A; the hash by hand."""
    import hashlib

    invitation, token = invite("berlin", NOW, entropy=bytes)
    assert token == "-".join(["AAAA"] * 8)
    by_hand = b"\x00\x00\x00\x0evestry-token/1" + b"\x00\x00\x00\x06berlin" + b"\x00\x00\x00\x20" + b"A" * 32
    assert invitation.token_hash == hashlib.sha256(by_hand).digest()


def test_people_may_type_a_token_as_they_like() -> None:
    invitation, token = invite("berlin", NOW)
    for typed in (token.lower(), token.replace("-", ""), f" {token} ", token.replace("-", " ")):
        assert redeem(invitation, "berlin", typed, NOW).used == NOW


def refusals() -> dict[str, tuple[Invitation | None, str, str, datetime]]:
    invitation, token = invite("berlin", NOW)
    _, other = invite("berlin", NOW)
    used = redeem(invitation, "berlin", token, NOW)
    return {
        "the token is wrong": (invitation, "berlin", other, NOW),
        "was used on": (used, "berlin", token, NOW),
        "was good until": (invitation, "berlin", token, NOW + 3 * DAY),
        "there is no invitation": (None, "berlin", token, NOW),
    }


@pytest.mark.parametrize("reason", refusals())
def test_every_refusal_reads_the_same_outside(reason: str) -> None:
    invitation, name, token, now = refusals()[reason]
    with pytest.raises(TokenRefused) as refused:
        redeem(invitation, name, token, now)
    assert str(refused.value) == TokenRefused.PUBLIC
    assert reason in refused.value.reason
    assert token not in refused.value.reason


def test_a_token_is_bound_to_its_site() -> None:
    invitation, token = invite("berlin", NOW)
    other, _ = invite("munich", NOW)
    for kept, name in ((invitation, "munich"), (other, "munich"), (other, "berlin")):
        with pytest.raises(TokenRefused):
            redeem(kept, name, token, NOW)
    moved = Invitation("munich", invitation.token_hash, invitation.expires)
    with pytest.raises(TokenRefused):
        redeem(moved, "munich", token, NOW)


def test_it_is_good_until_the_last_second() -> None:
    invitation, token = invite("berlin", NOW, lifetime=timedelta(hours=1))
    redeem(invitation, "berlin", token, NOW + timedelta(hours=1) - SECOND)
    with pytest.raises(TokenRefused):
        redeem(invitation, "berlin", token, NOW + timedelta(hours=1))


@pytest.mark.parametrize("reason", refusals())
def test_the_hash_is_compared_in_constant_time_whatever_else_is_wrong(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = refusals()[reason]
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    class Watched:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(tokens, "hmac", Watched)
    with pytest.raises(TokenRefused):
        redeem(*asked)
    assert [(len(one), len(other)) for one, other in compared] == [(32, 32)]


@pytest.mark.parametrize(
    ("name", "lifetime"),
    [
        ("", DAY),
        ("Berlin", DAY),
        ("a b", DAY),
        ("berlin", timedelta(0)),
        ("berlin", 31 * DAY),
        ("berlin", -DAY),
    ],
)
def test_what_is_no_invitation(name: str, lifetime: timedelta) -> None:
    with pytest.raises(RequestRefused, match=r"name=|lifetime="):
        invite(name, NOW, lifetime=lifetime)


@settings(deadline=None)
@given(NAMES, st.binary(min_size=32, max_size=32), st.integers(1, 10**9), st.none() | st.integers(1, 10**9))
def test_an_invitation_is_read_as_it_was_written(
    name: str, digest: bytes, end: int, used: int | None
) -> None:
    at = None if used is None else NOW + used * SECOND
    invitation = Invitation(name, digest, NOW + end * SECOND, at)
    assert Invitation.decode(invitation.encode()) == invitation


@settings(deadline=None)
@given(st.data())
def test_a_changed_byte_is_refused_or_changes_what_is_read(data: st.DataObject) -> None:
    """One encoding for one invitation: what is still readable is encoded to the same changed bytes."""
    invitation, _ = invite("berlin", NOW)
    content = bytearray(invitation.encode())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = Invitation.decode(bytes(content))
    except UnreadableObject:
        return
    assert found != invitation
    assert found.encode() == bytes(content)


def test_very_long_tokens_cost_nothing_more() -> None:
    invitation, _ = invite("berlin", NOW)
    with pytest.raises(TokenRefused):
        redeem(invitation, "berlin", "A" * 10_000_000, NOW)
    assert token_hash("berlin", "A") != token_hash("berlin", "AA")


def test_five_failures_are_free_then_waits_double() -> None:
    failures: tuple[datetime, ...] = ()
    now = NOW
    for _ in range(5):
        admit_attempt(failures, now)
        failures = later_failures(failures, now)
    for wait in (2, 4, 8, 16, 32, 64, 128):
        with pytest.raises(TooManyAttempts, match=f"try again in {wait} seconds") as refused:
            admit_attempt(failures, now)
        assert refused.value.wait == wait
        now += wait * SECOND
        with pytest.raises(TooManyAttempts, match="try again in 1 seconds"):
            admit_attempt(failures, now - SECOND)
        admit_attempt(failures, now)
        failures = later_failures(failures, now)


def test_who_guesses_as_fast_as_allowed_gets_sixty_tries_an_hour() -> None:
    failures: tuple[datetime, ...] = ()
    tries: list[datetime] = []
    for second in range(4 * 3600):
        now = NOW + second * SECOND
        try:
            admit_attempt(failures, now)
        except TooManyAttempts:
            continue
        tries.append(now)
        failures = later_failures(failures, now)
    hour = timedelta(hours=1)
    assert max(sum(start <= one < start + hour for one in tries) for start in tries) <= 60


def wait_of(failures: list[datetime], now: datetime) -> float:
    try:
        admit_attempt(failures, now)
    except TooManyAttempts as refused:
        return refused.wait
    return 0


@settings(deadline=None)
@given(st.lists(st.integers(-(10**6), 10**6), max_size=40))
def test_the_wait_is_bounded_whatever_the_clock_did(offsets: list[int]) -> None:
    failures = [NOW + offset * SECOND for offset in offsets]
    kept = later_failures(failures, NOW)
    assert len(kept) <= 20
    assert max(kept) == NOW
    assert 0 <= wait_of(failures, NOW) <= 900
    admit_attempt(kept, NOW + timedelta(minutes=15))
