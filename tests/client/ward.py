"""A population, its rules, a plan over it, a site's folder, and its commands as an operator types them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tests.simulations.laboratory import STUDY, environment
from vestry_client.cli import app
from vestry_client.home import SiteHome
from vestry_client.privacy_rules import BudgetRules, PrivacyRules
from vestry_privacy.errors import VestryError
from vestry_privacy.plan import PrivacyPlan, Release

__all__ = [
    "POLICY",
    "asked",
    "make_home",
    "make_plan",
    "make_rules",
    "private_study",
    "said_no",
    "vestry_site",
]

POLICY = """
version = 1

[populations.cardiology]
unit = "patient"
unit_column = "patient_id"
persons = 400
publish_persons = true
max_epsilon_per_study = 1.5
metrics = ["auc"]
approvers = ["steward of cardiology"]

[populations.cardiology.budget]
epsilon = 4.0
delta = 1e-5

[datasets.angio]
population = "cardiology"

[datasets.echo]
population = "cardiology"
unit_column = "case"
"""


def make_rules(**changes: Any) -> PrivacyRules:
    """Rules of 400 patients with a lifetime budget of epsilon 4."""
    settings: dict[str, Any] = {
        "unit": "patient",
        "unit_column": "patient_id",
        "persons": 400,
        "publish_persons": True,
        "budget": BudgetRules(epsilon=4.0, delta=1e-5),
        "metrics": ("auc",),
    }
    return PrivacyRules(**{**settings, **changes})


def make_plan(**changes: Any) -> PrivacyPlan:
    """Forty steps over 400 patients and one release of metrics: PLD epsilon 0.926 at delta 1e-5."""
    settings: dict[str, Any] = {
        "unit": "patient",
        "unit_column": "patient_id",
        "adjacency": "zero-out",
        "persons": 400,
        "delta": 1e-5,
        "noise_multiplier": 2.0,
        "sampling_probability": 0.05,
        "expected_batch": 20.0,
        "steps": 40,
        "clip": 1.0,
        "releases": (Release("evaluation", "holdout", 4.0, 1),),
    }
    return PrivacyPlan(**{**settings, **changes})


def make_home(folder: Path, policy: str = POLICY) -> SiteHome:
    """A site's folder with a policy."""
    home = SiteHome(folder / "site")
    home.create()
    home.policy.write_text(policy, encoding="utf-8")
    return home


def asked(*arguments: object, home: SiteHome | None = None) -> tuple[str, str]:
    """Run a command in this process; it must end well.

    Returns:
        Standard output and standard error.
    """
    words = [*map(str, arguments), *(("--home", str(home.folder)) if home is not None else ())]
    result = CliRunner().invoke(app, words, catch_exceptions=False, env={"COLUMNS": "120"})
    assert result.exit_code == 0, (result.exit_code, result.output)
    return result.stdout, result.stderr


def said_no(*arguments: object, home: SiteHome | None = None) -> str:
    """Run a command in this process; it must be refused. Returns the message."""
    words = [*map(str, arguments), *(("--home", str(home.folder)) if home is not None else ())]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, VestryError), (result.exit_code, result.output, result.exception)
    return str(result.exception)


def vestry_site(*arguments: object, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `vestry-site` to its end, as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", "vestry_client.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=folder,
        timeout=120,
        check=False,
    )


def private_study(**changes: str) -> str:
    """Text of a study of 20 steps over the patients of the policy; a keyword replaces one line's value."""
    lines = {
        "unit": '"patient"',
        "unit_column": '"patient_id"',
        "noise_multiplier": "8.0",
        "delta": "1e-5",
        "sampling_probability": "0.05",
        "metrics": '["auc"]',
        **changes,
    }
    section = "\n".join(["[privacy]", *(f"{key} = {value}" for key, value in lines.items() if value)])
    task = 'kind = "tabular"\nstandardise = "none"'
    text = STUDY.replace('kind = "tabular"', task, 1).replace('missing = "mean"', 'missing = "drop-row"')
    return text.replace("[aggregation]", f"{section}\n[aggregation]", 1)
