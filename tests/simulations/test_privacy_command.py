"""`vestry epsilon` and `vestry noise` as a user types them."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tests.simulations.laboratory import environment, refused, vestry
from vestry_simulations.cli import app
from vestry_simulations.privacy_command import OptionError

# sigma, q, T -> epsilon at delta 1e-5 under RDP, PRV (Opacus), PLD: the design's table of known answers.
KNOWN = [
    (1.0, 0.01, 1000, 2.101, 1.838, 1.828),
    (1.0, 0.01, 3000, 3.511, 3.203, 3.192),
    (1.0, 0.01, 10000, 6.713, 6.198, 6.188),
    (0.5, 0.01, 1000, 15.46, 13.37, 13.361),
    (2.0, 0.05, 1000, 4.024, 3.710, 3.700),
    (4.0, 0.2, 200, 3.341, 3.080, 3.070),
    (1.0, 0.1, 300, 13.71, 12.41, 12.398),
    (1.0, 1.0, 1, 4.729, 4.387, 4.3772),
    (0.7, 0.001, 10000, 2.025, 1.255, 1.245),
]
GOOD = {"noise-multiplier": "4", "sampling-probability": "0.2", "steps": "200", "delta": "1e-5"}


def options(**changes: object) -> list[str]:
    """Options of `vestry epsilon` that are fine, but for the changes; None leaves one out."""
    given = {**GOOD, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]


def noise_options(**changes: object) -> list[str]:
    return options(**{"noise_multiplier": None, "epsilon": 3, **changes})


def printed(*arguments: str) -> dict[str, float]:
    """What a command that succeeds prints as JSON."""
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    answer: dict[str, float] = json.loads(result.stdout)
    return answer


def said(*arguments: str) -> str:
    """What a command that is refused says, in one line."""
    with pytest.raises(OptionError) as error:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("sigma", "q", "steps", "rdp", "prv", "pld"), KNOWN)
def test_known_answers(sigma: float, q: float, steps: int, rdp: float, prv: float, pld: float) -> None:
    given = options(noise_multiplier=sigma, sampling_probability=q, steps=steps)
    assert printed("epsilon", *given) == {"epsilon": pytest.approx(pld, rel=0.005)}
    for accountant, known in (("rdp", rdp), ("prv", prv)):
        answer = printed("epsilon", *given, "--accountant", accountant)
        assert answer["epsilon"] == pytest.approx(known, rel=0.005)


@pytest.mark.parametrize(("sigma", "q", "steps", "rdp", "prv", "pld"), [KNOWN[5], KNOWN[7]])
def test_noise_answers_the_reverse(
    sigma: float, q: float, steps: int, rdp: float, prv: float, pld: float
) -> None:
    answer = printed("noise", *noise_options(epsilon=pld, sampling_probability=q, steps=steps))
    assert answer["noise_multiplier"] == pytest.approx(sigma, rel=0.005)
    assert pld * 0.995 < answer["epsilon"] <= pld


def test_adjacency_changes_nothing_for_poisson_sampling() -> None:
    zero_out = printed("epsilon", *options(), "--adjacency", "zero-out")["epsilon"]
    add_remove = printed("epsilon", *options(), "--adjacency", "add-remove")["epsilon"]
    assert zero_out == pytest.approx(add_remove, rel=1e-3)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("noise-multiplier", "0"),
        ("noise-multiplier", "-1"),
        ("noise-multiplier", "nan"),
        ("noise-multiplier", "inf"),
        ("noise-multiplier", "1e-300"),
        ("sampling-probability", "0"),
        ("sampling-probability", "1.01"),
        ("sampling-probability", "nan"),
        ("steps", "0"),
        ("steps", "-3"),
        ("steps", "100000000000"),
        ("delta", "0"),
        ("delta", "1"),
        ("delta", "-0.1"),
        ("delta", "1e-16"),
        ("accountant", "gdp"),
        ("adjacency", "replace"),
    ],
)
def test_epsilon_names_the_option_that_is_wrong(option: str, value: str) -> None:
    line = said("epsilon", *options(**{option: value}))
    assert line.startswith(f"--{option}: ")
    assert "; give " in line or "; use " in line


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epsilon", "0"),
        ("epsilon", "-1"),
        ("epsilon", "nan"),
        ("epsilon", "inf"),
        ("epsilon", "1000"),
        ("sampling-probability", "2"),
        ("steps", "0"),
        ("delta", "1"),
    ],
)
def test_noise_names_the_option_that_is_wrong(option: str, value: str) -> None:
    line = said("noise", *noise_options(**{option: value}))
    assert line.startswith(f"--{option}: ")
    assert "; give " in line


def test_a_target_that_no_noise_meets() -> None:
    line = said("noise", *noise_options(epsilon="1e-9"))
    assert "--epsilon: no noise meets 1e-09 over 200 steps" in line
    assert "ask for a larger epsilon" in line


def test_noise_too_small_for_a_loss_distribution() -> None:
    given = options(noise_multiplier="0.02")
    assert "use --accountant rdp" in said("epsilon", *given)
    assert printed("epsilon", *given, "--accountant", "rdp")["epsilon"] > 1000


def test_prv_that_breaks_down_is_no_defect() -> None:
    line = said("epsilon", *options(delta="0.999"), "--accountant", "prv")
    assert line == "--accountant: prv finds no epsilon for these options; use --accountant pld"


def test_for_people() -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["epsilon", *options()], catch_exceptions=False).stdout
    assert shown == "epsilon 3.0698 at delta 1e-05 (pld, zero-out)\n"
    shown = runner.invoke(app, ["noise", *noise_options()], catch_exceptions=False).stdout
    assert shown.startswith("noise multiplier 4.0")
    assert "at delta 1e-05 (pld, zero-out)" in shown


def test_an_error_ends_with_two_and_one_line() -> None:
    line = refused(vestry("epsilon", *options(sampling_probability=0)), "--sampling-probability: 0")
    assert line.count("\n") == 1


@pytest.mark.parametrize("arguments", [options(), [*options(), "--accountant", "rdp"]], ids=["pld", "rdp"])
def test_neither_torch_nor_flower_nor_opacus_is_loaded(arguments: list[str]) -> None:
    program = (
        "import sys\nimport typer\nfrom vestry_simulations.privacy_command import epsilon_command\n"
        "app = typer.Typer()\napp.command()(epsilon_command)\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "heavy = {'torch', 'flwr', 'opacus', 'vestry_strategies', 'vestry_server', 'vestry_client'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
