"""A Secret shows its content where it is asked to, and nowhere else."""

import copy
import json
import pickle
from collections.abc import Callable

import pytest

from vestry_privacy.secagg.errors import WrongStep
from vestry_privacy.secagg.secret import Secret

CONTENT = b"sixteen bytes of"


def test_exposes_what_it_was_given_as_a_copy() -> None:
    data = bytearray(CONTENT)
    secret = Secret(data)
    data[:] = bytes(len(data))
    assert secret.expose() == CONTENT
    assert len(secret) == len(CONTENT)


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>40}".format])
def test_no_text_of_it_has_the_content(show: Callable[[Secret], str]) -> None:
    shown = show(Secret(CONTENT))
    assert "16 bytes" in shown
    assert CONTENT.decode() not in shown
    assert CONTENT.hex() not in shown


def test_cannot_be_compared() -> None:
    one, other = Secret(CONTENT), Secret(CONTENT)
    with pytest.raises(TypeError, match="compared"):
        _ = one == other
    with pytest.raises(TypeError, match="compared"):
        _ = one != other
    with pytest.raises(TypeError, match="compared"):
        _ = one == CONTENT
    with pytest.raises(TypeError, match="compared"):
        _ = CONTENT == one  # noqa: SIM300
    with pytest.raises(TypeError, match="compared"):
        _ = one in [CONTENT]


def test_cannot_be_hashed() -> None:
    with pytest.raises(TypeError, match="hashed"):
        hash(Secret(CONTENT))
    with pytest.raises(TypeError, match="hashed"):
        _ = {Secret(CONTENT)}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(Secret(CONTENT), protocol)


def test_cannot_be_copied_or_made_json() -> None:
    with pytest.raises(TypeError, match="copied"):
        copy.copy(Secret(CONTENT))
    with pytest.raises(TypeError, match="copied"):
        copy.deepcopy([Secret(CONTENT)])
    with pytest.raises(TypeError):
        json.dumps(Secret(CONTENT))


def test_is_no_buffer_and_has_no_dictionary() -> None:
    with pytest.raises(TypeError):
        memoryview(Secret(CONTENT))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        vars(Secret(CONTENT))
    with pytest.raises(TypeError):
        iter(Secret(CONTENT))  # type: ignore[call-overload]


def test_a_wiped_secret_is_gone() -> None:
    secret = Secret(CONTENT)
    secret.wipe()
    with pytest.raises(WrongStep, match="wiped") as refusal:
        secret.expose()
    assert CONTENT.decode() not in str(refusal.value)
    assert secret._data == bytearray(len(CONTENT))
    secret.wipe()
    assert len(secret) == len(CONTENT)
