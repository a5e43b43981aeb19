"""What a run tells: a round is the same after it was written and read."""

import json
from dataclasses import replace

import pytest

from tests.simulations.samples import sample_record
from vestry_server.progress import RoundFailed, RoundRecord, SecureAggregation, StatisticsDone, Working


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_record_survives_json(evaluated: bool) -> None:
    record = sample_record(3, ["a", "b"], evaluated=evaluated)
    assert RoundRecord.from_plain(json.loads(json.dumps(record.plain()))) == record


@pytest.mark.parametrize(("loss", "epsilon"), [(None, 0.75), (None, None), (0.5, 3.0)])
def test_a_record_under_privacy_survives_json(loss: float | None, epsilon: float | None) -> None:
    record = replace(sample_record(3, ["a", "b"], evaluated=False), loss=loss, epsilon=epsilon)
    assert RoundRecord.from_plain(json.loads(json.dumps(record.plain()))) == record


def test_a_record_of_before_there_was_epsilon_is_read() -> None:
    plain = sample_record(3, ["a", "b"]).plain()
    del plain["epsilon"]
    assert RoundRecord.from_plain(plain).epsilon is None


def test_a_record_with_a_field_too_many_is_refused() -> None:
    plain = sample_record(3, ["a", "b"]).plain()
    with pytest.raises(TypeError):
        RoundRecord.from_plain({**plain, "patients": ["x"]})


def test_an_attempt_without_a_secure_sum_has_no_reason_of_its_own() -> None:
    assert RoundFailed(1, 1, {}).reason == ""
    assert RoundFailed(1, 1, {}, "too few survivors").reason == "too few survivors"


def test_events_do_not_change() -> None:
    for event in (StatisticsDone(("a",)), RoundFailed(1, 1, {}), Working("x"), SecureAggregation(3, "x")):
        with pytest.raises(AttributeError):
            event.extra = 1  # type: ignore[union-attr]
