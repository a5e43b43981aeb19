"""`vestry-site population register`."""

from typing import Annotated

import typer

from vestry_client.command_options import DEFAULT_HOME, Head, Home, Json, note, print_json, say

__all__ = ["app", "register"]

app = typer.Typer(help="Populations: the persons who share one budget.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `register` a subcommand although it is alone."""


@app.command()
def register(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A population of the policy.")],
    amend: Annotated[
        bool, typer.Option("--amend", help="Take over changed numbers; the ledger records the change.")
    ] = False,
    home: Home = DEFAULT_HOME,
    head: Head = None,
    as_json: Json = False,
) -> None:
    """Enter a population of the policy into the ledger. Entering it again changes nothing."""
    from vestry_client.home import HomeError, SiteHome
    from vestry_client.privacy_rules import population_of

    site = SiteHome(home, head)
    policy = site.load_policy()
    rules = policy.populations.get(name)
    if rules is None:
        known = ", ".join(policy.populations) or "none"
        raise HomeError(f"{site.policy}: declares no population '{name}'; declared: {known}")
    with site.open_ledger() as ledger:
        population = population_of(name, rules, ledger.population(name))
        before = ledger.head
        ledger.register(population, amend=amend)
        wrote = ledger.head != before
    if as_json:
        order = population.budget.order
        print_json({"population": name, "order": order, "written": wrote})
        return
    note(f"{name}: {'entered' if wrote else 'is there already, nothing changed'}")
    budget = population.budget
    say(f"{name}: epsilon {budget.epsilon:g} at delta {budget.delta:g}, filter order {budget.order:g}")
