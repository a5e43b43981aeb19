"""Stored events: what they refuse, and that a round trip through JSON keeps them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vestry_privacy.accounting import AccountingError, parse_event
from vestry_privacy.events import Event, GaussianRelease, PoissonGaussian, TruncatedPoissonGaussian

sigmas = st.floats(1e-3, 1e6)
rates = st.floats(0, 1, exclude_min=True)
counts = st.integers(0, 10**9)
events = st.one_of(
    st.builds(GaussianRelease, noise_multiplier=sigmas, count=counts),
    st.builds(PoissonGaussian, noise_multiplier=sigmas, sampling_probability=rates, count=counts),
    st.builds(
        TruncatedPoissonGaussian,
        noise_multiplier=sigmas,
        sampling_probability=rates,
        cap=st.integers(1, 10**6),
        persons=st.integers(1, 10**8),
        count=counts,
    ),
)


@given(events)
def test_json_keeps_an_event(event: Event) -> None:
    assert parse_event(event.model_dump_json()) == event


@given(events)
def test_events_are_values(event: Event) -> None:
    assert hash(event) == hash(event.model_copy())
    with pytest.raises(ValidationError, match="frozen"):
        event.count = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"mechanism": "laplace", "noise_multiplier": 1.0, "count": 1}',
        '{"noise_multiplier": 1.0, "count": 1}',
        '{"mechanism": "gaussian", "noise_multiplier": 0.0, "count": 1}',
        '{"mechanism": "gaussian", "noise_multiplier": 1e999, "count": 1}',
        '{"mechanism": "gaussian", "noise_multiplier": NaN, "count": 1}',
        '{"mechanism": "gaussian", "noise_multiplier": "1", "count": 1}',
        '{"mechanism": "gaussian", "noise_multiplier": 1.0, "count": -1}',
        '{"mechanism": "gaussian", "noise_multiplier": 1.0, "count": 1.5}',
        '{"mechanism": "gaussian", "noise_multiplier": 1.0, "count": 1, "epsilon": 0.1}',
        '{"mechanism": "poisson-gaussian", "noise_multiplier": 1.0, "count": 1}',
        '{"mechanism": "poisson-gaussian", "noise_multiplier": 1.0, "sampling_probability": 0.0, "count": 1}',
        '{"mechanism": "poisson-gaussian", "noise_multiplier": 1.0, "sampling_probability": 1.1, "count": 1}',
        '{"mechanism": "dp_accounting.NoOpDpEvent", "count": 1}',
    ],
)
def test_what_is_no_event_of_ours_is_refused(text: str) -> None:
    with pytest.raises(AccountingError, match="unknown mechanism or parameter out of range"):
        parse_event(text)
