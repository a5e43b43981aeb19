"""`vestry attack canary`: the claim of a study, held against what its trainer lets through."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.simulations.laboratory import STUDY, refused, rows, vestry, write_csv
from vestry_privacy.auditing import AuditResult
from vestry_privacy.errors import VestryError
from vestry_simulations.attack_command import _made_up, _plain, _show, audit_study
from vestry_simulations.partition import SimulationError
from vestry_strategies.study import StudySpec, parse_study
from vestry_strategies.tasks.registry import find_task

PRIVACY = """
[privacy]
unit = "patient"
unit_column = "row"
epsilon = 3.0
delta = 1e-5
clip = 0.5
sampling_probability = 0.5
noise = "simulation"
"""


def private_text() -> str:
    text = STUDY.replace("[aggregation]", PRIVACY + "[aggregation]")
    return text.replace('name = "dose"\ntype = "number"', 'name = "dose"\ntype = "number"\nrange = [-5, 5]')


def private_study() -> StudySpec:
    return parse_study(private_text())


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_estimate_is_near_the_claim() -> None:
    seen: list[tuple[int, int]] = []
    result = audit_study(private_study(), canaries=2000, progress=lambda *place: seen.append(place))
    assert seen[-1] == (20, 20)
    assert result.holds
    assert result.interval[0] <= result.epsilon_claimed <= result.interval[1]
    assert result.canaries == 2000
    assert result == audit_study(private_study(), canaries=2000)


def test_records_are_made_up_in_the_shape_of_the_study() -> None:
    text = (Path(__file__).parents[2] / "examples" / "mnist_cnn.toml").read_text(encoding="utf-8")
    image = parse_study(text)
    inputs, targets, owners = _made_up(image, find_task(image))
    assert inputs.shape[1:] == (1, 28, 28)
    assert set(targets.tolist()) <= set(range(10))
    assert len(inputs) == len(targets) == len(np.unique(owners))
    numbers = parse_study(
        STUDY.replace('type = "binary"\nclasses = ["no", "yes"]', 'type = "regression"')
        .replace('kind = "logistic"', 'kind = "linear"')
        .replace('metrics = ["accuracy", "auc"]', 'metrics = ["rmse"]')
    )
    inputs, targets, _ = _made_up(numbers, find_task(numbers))
    assert inputs.shape[1:] == (6,)
    assert targets.dtype == torch.float32


def test_real_records_can_keep_the_canaries_company(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "a.csv", rows(120))
    result = audit_study(private_study(), data, canaries=500)
    assert result.holds


def test_a_study_that_protects_no_person_claims_nothing() -> None:
    with pytest.raises(SimulationError, match="claims nothing to audit"):
        audit_study(parse_study(STUDY))


def test_records_that_the_study_cannot_use(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "a.csv", rows(3))
    data.write_text(data.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(VestryError, match=r"a\.csv|no rows"):
        audit_study(private_study(), data, canaries=500)


RESULT = AuditResult(
    epsilon_claimed=3.0,
    epsilon_estimate=0.0,
    interval=(0.0, 1.0),
    epsilon_lower_bound=0.0,
    noise_multiplier=2.0,
    noise_multiplier_estimate=math.inf,
    delta=1e-5,
    confidence=0.95,
    canaries=100,
    steps=3,
)


def test_noise_that_hides_everything_is_still_json() -> None:
    plain = json.loads(json.dumps(_plain(RESULT), allow_nan=False))
    assert plain["noise_multiplier_estimate"] is None
    assert plain["interval"] == [0.0, 1.0]


def test_a_claim_that_is_refuted_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    _show(private_study(), replace(RESULT, epsilon_estimate=6.0, interval=(5.0, 7.0)))
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "the claim is refuted" in shown
    assert "one audit in twenty" in shown
    assert "5.000 to 7.000" in shown


@pytest.mark.slow
def test_the_command_prints_table_and_json(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(private_text())
    done = vestry("attack", "canary", tmp_path / "s.toml", "--canaries", 400, "--epsilon", 2, "--json")
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert 1.5 < plain["epsilon_claimed"] <= 2
    low, high = plain["interval"]
    assert low <= plain["epsilon_estimate"] <= high
    (tmp_path / "s.toml").write_text(private_text().replace("epsilon = 3.0", "noise_multiplier = 4.0"))
    done = vestry("attack", "canary", tmp_path / "s.toml", "--canaries", 400)
    assert "epsilon claimed (PLD)" in done.stdout
    assert "refuted" in done.stdout
    assert "in simulation only" in done.stdout


def test_bad_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text(STUDY)
    (tmp_path / "s.toml").write_text(private_text())
    refused(vestry("attack", "canary", tmp_path / "plain.toml"), "no section [privacy]")
    refused(vestry("attack", "canary", tmp_path / "s.toml", "--epsilon", 0), "--epsilon", "above 0")
    refused(vestry("attack", "canary", tmp_path / "none.toml"), "no such file")
