"""Secure sums under [privacy]: the same ledgers as in the clear, and a repeated round is charged afresh."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.simulations.private_laboratory import (
    CLINICS,
    METRICS,
    SIMULATED,
    counted,
    entries_of,
    lay_out,
    make_manifest,
    spent,
)
from vestry_privacy.accounting import parse_event
from vestry_server.checkpoint import load_latest
from vestry_server.progress import Event, RoundFailed, RoundRecord
from vestry_simulations.faults import Faults
from vestry_simulations.simulate import Laboratory, simulate
from vestry_strategies.study import load_study

SECURE = ("secure = false", "secure = true")


def run(folder: Path, place: str, tell: Any = lambda event: None, **changes: Any) -> Any:
    return simulate(make_manifest(folder, **changes), Laboratory(folder / place), tell)


def test_secure_sums_cost_what_the_clear_costs_and_come_to_the_same_model(tmp_path: Path) -> None:
    """With simulated noise, so that the two can be compared."""
    lay_out(tmp_path, METRICS, SIMULATED)
    plain = run(tmp_path, "plain")
    lay_out(tmp_path, METRICS, SIMULATED, SECURE)
    secure = run(tmp_path, "secure")
    assert secure.epsilon == plain.epsilon
    for name in CLINICS:
        assert counted(map(parse_event, secure.privacy[name].events)) == counted(
            map(parse_event, plain.privacy[name].events)
        )
        kinds = [entry.kind for entry in entries_of(tmp_path / "secure" / "run", name)]
        assert kinds == [entry.kind for entry in entries_of(tmp_path / "plain" / "run", name)]
    assert [r.epsilon for r in secure.history] == [r.epsilon for r in plain.history]
    assert secure.history[0].loss is None
    for one, other in zip(secure.history, plain.history, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=0.05)
        assert one.per_site == {}
    models = [load_latest(tmp_path / place / "run" / "checkpoints") for place in ("secure", "plain")]
    assert models[0] is not None
    assert models[1] is not None
    np.testing.assert_allclose(models[0].model, models[1].model, atol=5e-3)


def test_a_round_that_fails_is_trained_and_charged_again(tmp_path: Path) -> None:
    lay_out(tmp_path, SECURE)
    study = load_study(tmp_path / "study.toml")
    failed: list[RoundFailed] = []

    def tell(event: Event) -> None:
        if isinstance(event, RoundFailed):
            failed.append(event)

    result = run(tmp_path, "runs", tell, faults=Faults(drop_out=0.12, seed=16))
    assert result.rounds == study.training.rounds
    assert failed
    extra = dict.fromkeys(CLINICS, 0)
    for event in failed:
        for site in set(CLINICS) - set(event.left_out):
            extra[site] += 1
    steps = study.training.local_steps or 1
    for site in CLINICS:
        charged = sum(
            count
            for event, count in spent(tmp_path / "runs" / "run", site, study, "train").items()
            if event.mechanism != "gaussian"
        )
        assert charged == steps * (study.training.rounds + extra[site])


def test_a_resumed_private_run_goes_on_from_its_ledgers(tmp_path: Path) -> None:
    lay_out(tmp_path, SECURE)

    class Stop(Exception):
        pass

    def tell(event: Event) -> None:
        if isinstance(event, RoundRecord) and event.round == 2:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path, "runs", tell)
    result = run(tmp_path, "runs")
    assert result.rounds == 4
    assert result.epsilon == pytest.approx(result.history[-1].epsilon)
