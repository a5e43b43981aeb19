"""What a run tells: a round is the same after it was written and read."""

import json

import pytest

from tests.simulations.samples import sample_record
from vestry_server.progress import RoundFailed, RoundRecord, StatisticsDone, Working


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_record_survives_json(evaluated: bool) -> None:
    record = sample_record(3, ["a", "b"], evaluated=evaluated)
    assert RoundRecord.from_plain(json.loads(json.dumps(record.plain()))) == record


def test_a_record_with_a_field_too_many_is_refused() -> None:
    plain = sample_record(3, ["a", "b"]).plain()
    with pytest.raises(TypeError):
        RoundRecord.from_plain({**plain, "patients": ["x"]})


def test_events_do_not_change() -> None:
    for event in (StatisticsDone(("a",)), RoundFailed(1, 1, {}), Working("x")):
        with pytest.raises(AttributeError):
            event.extra = 1  # type: ignore[union-attr]
