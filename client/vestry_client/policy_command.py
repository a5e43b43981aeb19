"""`vestry-site policy check`."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vestry_client.command_options import DEFAULT_HOME, Home, Json, print_json, print_table, say

if TYPE_CHECKING:
    from datetime import date

    from vestry_client.policy import SitePolicy
    from vestry_client.privacy_rules import PrivacyRules

__all__ = ["app", "check", "in_words", "weak_choices"]

app = typer.Typer(help="Look at a site's policy.", no_args_is_help=True)

File = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="A policy file (TOML); default: the site's own.")
]


@app.callback()
def _group() -> None:
    """Keep `check` a subcommand although it is alone."""


@app.command()
def check(file: File = None, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Check a policy file: every problem, or what the policy allows, in words."""
    from vestry_client.home import SiteHome
    from vestry_client.policy_file import load_policy

    path = SiteHome(home).policy if file is None else file
    policy = load_policy(path)
    weak = list(weak_choices(policy, datetime.now(UTC).date()))
    if as_json:
        print_json({"ok": True, "policy": policy.model_dump(mode="json"), "weak": weak})
        return
    say(f"{path}: fine")
    print_table("", ("what", "allowed"), in_words(policy))
    for line in weak:
        say(f"weak: {line}")


def in_words(policy: "SitePolicy") -> Iterator[tuple[str, str]]:
    """What a policy allows: pairs of a question and its answer."""
    yield "who may ask", _listed(policy.allowed_initiators, "everybody", "nobody")
    yield "for which purposes", _listed(policy.allowed_purposes, "any", "none")
    yield "rounds of a study", f"at most {policy.max_rounds}" if policy.max_rounds else "any number"
    yield (
        "this site's own update",
        (
            "seen by the coordinator where a study asks"
            if policy.allow_individual_updates
            else f"only in a sum over {policy.min_cohort} or more sites"
        ),
    )
    yield "rosters of one data set", f"equal, or different by {policy.roster_change} sites or more"
    colluders = policy.max_colluding_sites
    yield (
        "drawn cohorts",
        (
            "refused: the study's whole roster only"
            if colluders is None
            else f"where {colluders} of them may help the coordinator"
        ),
    )
    noised = "" if policy.allow_repeats_without_privacy else ", under local noise only"
    repeats = f"at most {policy.max_repeats} times" if policy.max_repeats else "never"
    yield "a failed round is repeated", repeats + (noised if policy.max_repeats else "")
    yield "training without privacy", "allowed" if policy.allow_training_without_privacy else "refused"
    yield "third-party tasks", _listed(policy.allowed_plugins, "none", "none")
    yield (
        "what a refusal tells",
        {"nothing": "nothing", "rule": "the rule's name", "full": "all"}[policy.tell_coordinator],
    )
    for name, rules in policy.populations.items():
        for what, allowed in _population(rules):
            yield f"{name}: {what}", allowed
        datasets = [dataset for dataset, rule in policy.datasets.items() if rule.population == name]
        yield f"{name}: data sets", _listed(tuple(datasets), "none", "none")
    if not policy.populations:
        yield "populations", "none: no study with a section [privacy] trains"


def _population(rules: "PrivacyRules") -> Iterator[tuple[str, str]]:
    column = "every row is another person" if rules.unit_column == "row" else f"column {rules.unit_column}"
    yield "who is protected", rules.unit if rules.unit_column is None else f"{rules.unit}, {column}"
    persons = "not public" if not rules.publish_persons else f"{rules.persons}, public"
    yield "number of persons", f"{persons} ({rules.adjacency})"
    budget = rules.budget
    window = "for life" if budget.window == "lifetime" else f"{budget.starts} to {budget.ends}"
    yield "budget", f"epsilon {budget.epsilon:g} at delta {budget.delta:g}, {window}"
    yield "filter", f"Renyi order {budget.for_ledger().order:g}"
    yield "one study", f"at most epsilon {rules.study_limit:g}"
    yield "drawing persons", _listed(rules.mechanisms, "none", "none")
    yield "metrics that leave", _listed(rules.metrics, "none", "none")
    limits = {"steps": rules.max_steps, "records of a person": rules.max_records}
    yield "at most", ", ".join(f"{most} {what}" for what, most in limits.items() if most is not None)
    least = f", noise multiplier {rules.min_noise_multiplier:g}" if rules.min_noise_multiplier else ""
    yield "at least", f"{rules.min_units} persons{least}"
    sites = f", charged for {rules.federation_sites} sites" if rules.federation_sites else ""
    yield "persons at other sites", rules.cross_site_overlap + sites
    yield "expires", "never" if rules.expires is None else f"after {rules.expires}"
    yield "approved by", _listed(rules.approvers, "nobody named", "nobody named")


def weak_choices(policy: "SitePolicy", today: "date") -> Iterator[str]:
    """What a steward should know about a policy that is allowed all the same."""
    if policy.allow_individual_updates:
        yield "allow_individual_updates: the coordinator may see this site's own update"
    if policy.allow_training_without_privacy:
        yield "allow_training_without_privacy: nothing bounds what such a model tells about a patient"
    if policy.allow_repeats_without_privacy and policy.max_repeats:
        yield (
            "allow_repeats_without_privacy: two sums of one model, with and without a site that dropped out, "
            "tell its update"
        )
    if policy.roster_change == 1:
        yield "roster_change: two sums over rosters that differ by one site tell its update"
    for name, rules in policy.populations.items():
        where = f"populations.{name}"
        if rules.exact_sums:
            yield f"{where}.exact_sums: guarantee none; sums leave without noise"
        if not rules.secure_noise:
            yield f"{where}.secure_noise: simulated noise protects nobody"
        if rules.allow_site_noise_at_server:
            yield f"{where}.allow_site_noise_at_server: no protection against the coordinator"
        if rules.unit == "record":
            yield f"{where}.unit: a person with k records is protected k times less"
        if rules.unit == "site":
            yield f"{where}.unit: nothing bounds what a model tells about one patient"
        if rules.expires is not None and rules.expires < today:
            yield f"{where}.expires: expired on {rules.expires}, nothing is allowed"
        if rules.budget.ends is not None and rules.budget.ends < today:
            yield f"{where}.budget.window: ended on {rules.budget.ends}, nothing is allowed"


def _listed(names: tuple[str, ...] | None, default: str, empty: str) -> str:
    if names is None:
        return default
    return ", ".join(names) or empty
