"""`vestry epsilon` and `vestry noise`: what steps of DP-SGD cost, and the noise that they need.

VestryError
└── OptionError    an option is out of range, or the options together have no answer
"""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from vestry_privacy.errors import VestryError

if TYPE_CHECKING:
    from vestry_privacy.accounting import AccountantName, Adjacency

__all__ = ["OptionError", "epsilon_command", "noise_command"]

_MOST_EPSILON = 64.0
"""Beyond it nobody is protected, and only the Renyi bound is computed."""

_LEAST_DELTA = 1e-12
"""Below it the rounding of loss distributions weighs more than delta itself."""

_LEAST_NOISE, _MOST_NOISE, _MOST_STEPS = 0.01, 1e6, 10**9

_ACCOUNTANTS: dict[str, "AccountantName"] = {"pld": "pld", "rdp": "rdp", "prv": "prv"}
_ADJACENCIES: dict[str, "Adjacency"] = {"zero-out": "zero-out", "add-remove": "add-remove"}

Delta = Annotated[
    float, typer.Option("--delta", metavar="D", help="Of the guarantee, below 1 / number of persons.")
]
Probability = Annotated[
    float,
    typer.Option(
        "--sampling-probability", metavar="Q", help="Of a person to be in a step; 1 takes everybody."
    ),
]
Steps = Annotated[int, typer.Option("--steps", metavar="T", help="Of the whole study: rounds x local steps.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class OptionError(VestryError):
    """An option is out of range, or no value answers the question."""


def epsilon_command(
    noise: Annotated[
        float, typer.Option("--noise-multiplier", metavar="S", help="Deviation of the noise over the clip.")
    ],
    probability: Probability,
    steps: Steps,
    delta: Delta,
    accountant: Annotated[
        str, typer.Option(metavar="pld|rdp|prv", help="pld is what counts; the others are second opinions.")
    ] = "pld",
    adjacency: Annotated[
        str, typer.Option(metavar="zero-out|add-remove", help="Is the number of persons public, or not?")
    ] = "zero-out",
    as_json: Json = False,
) -> None:
    """Epsilon of all steps of a study together: persons sampled independently, Gaussian noise."""
    if not noise >= _LEAST_NOISE:
        raise OptionError(
            f"--noise-multiplier: {noise:g} protects nobody; give a number above 0, at least {_LEAST_NOISE:g}"
        )
    if noise > _MOST_NOISE:
        raise OptionError(
            f"--noise-multiplier: {noise:g} leaves nothing to learn; give at most {_MOST_NOISE:g}"
        )
    _check(probability, steps, delta)
    if accountant not in _ACCOUNTANTS:
        raise OptionError(f"--accountant: '{accountant}' is unknown; use one of {', '.join(_ACCOUNTANTS)}")
    if adjacency not in _ADJACENCIES:
        raise OptionError(f"--adjacency: '{adjacency}' is unknown; use one of {', '.join(_ADJACENCIES)}")
    name, relation = _ACCOUNTANTS[accountant], _ADJACENCIES[adjacency]
    value = _epsilon(noise, probability, steps, delta, name, relation)
    if as_json:
        print(json.dumps({"epsilon": value}))
        return
    print(f"epsilon {value:.4f} at delta {delta:g} ({name}, {relation})")


def noise_command(
    target: Annotated[
        float, typer.Option("--epsilon", metavar="E", help="Of a person, over the whole study.")
    ],
    probability: Probability,
    steps: Steps,
    delta: Delta,
    as_json: Json = False,
) -> None:
    """The least noise multiplier that keeps all steps of a study within an epsilon (PLD)."""
    from vestry_privacy.accounting import AccountingError, PoissonGaussian, epsilon, noise_multiplier

    if not 0 < target <= _MOST_EPSILON:
        raise OptionError(
            f"--epsilon: {target:g} is out of range; give a number above 0 and at most {_MOST_EPSILON:g}, "
            "beyond which nobody is protected"
        )
    _check(probability, steps, delta)
    try:
        sigma = noise_multiplier(target, delta, probability, steps)
    except AccountingError:
        raise OptionError(
            f"--epsilon: no noise meets {target:g} over {steps} steps at delta {delta:g}; ask for a larger "
            "epsilon or delta, or for fewer steps"
        ) from None
    event = PoissonGaussian(noise_multiplier=sigma, sampling_probability=probability, count=steps)
    reached = epsilon([event], delta)
    if as_json:
        print(json.dumps({"noise_multiplier": sigma, "epsilon": reached}))
        return
    print(f"noise multiplier {sigma:.4f}: epsilon {reached:.4f} at delta {delta:g} (pld, zero-out)")


def _check(probability: float, steps: int, delta: float) -> None:
    if not 0 < probability <= 1:
        raise OptionError(
            f"--sampling-probability: {probability:g} is no probability of being sampled; give a number "
            "above 0 and at most 1"
        )
    if not 1 <= steps <= _MOST_STEPS:
        raise OptionError(f"--steps: {steps} is out of range; give a number from 1 to {_MOST_STEPS}")
    if not _LEAST_DELTA <= delta < 1:
        raise OptionError(
            f"--delta: {delta:g} is out of range; give a number below 1 / number of persons, such as 1e-5, "
            f"and at least {_LEAST_DELTA:g}, below which rounding decides"
        )


def _epsilon(
    noise: float,
    probability: float,
    steps: int,
    delta: float,
    accountant: "AccountantName",
    adjacency: "Adjacency",
) -> float:
    from vestry_privacy.accounting import PoissonGaussian, epsilon

    event = PoissonGaussian(noise_multiplier=noise, sampling_probability=probability, count=steps)
    rough = epsilon([event], delta, "rdp", adjacency)
    if accountant == "rdp":
        return rough
    if rough > _MOST_EPSILON:
        raise OptionError(
            f"--noise-multiplier: {noise:g} gives an epsilon of about {rough:.3g}, which protects nobody and "
            f"is too large for {accountant}; give more noise, or use --accountant rdp for the figure"
        )
    try:
        return max(0.0, epsilon([event], delta, accountant, adjacency))
    except (ValueError, RuntimeError):  # Opacus' PRV, where its integration breaks down
        raise OptionError(
            f"--accountant: {accountant} finds no epsilon for these options; use --accountant pld"
        ) from None
