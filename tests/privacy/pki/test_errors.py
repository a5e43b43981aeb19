"""Errors of the PKI: one branch, drawn whole, and public words that tell a guesser nothing."""

import inspect

import pytest

from vestry_privacy.errors import VestryError
from vestry_privacy.pki import errors
from vestry_privacy.pki.errors import PkiError, TokenRefused, TooManyAttempts

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass) if item is not VestryError]


@pytest.mark.parametrize("error", CLASSES)
def test_each_is_one_step_below_the_branch_and_drawn(error: type[Exception]) -> None:
    assert error is PkiError or error.__bases__ == (PkiError,)
    assert f"── {error.__name__} " in (errors.__doc__ or "")


def test_a_refused_token_keeps_its_reason_out_of_its_words() -> None:
    one, other = TokenRefused("wrong"), TokenRefused("used")
    assert str(one) == str(other)
    assert (one.reason, other.reason) == ("wrong", "used")
    assert one.args == other.args


def test_a_wait_is_said() -> None:
    assert str(TooManyAttempts(12.0)) == "enrolment: too many attempts failed; try again in 12 seconds"
