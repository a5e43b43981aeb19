"""A ledger's report as tables for people."""

from collections.abc import Iterator, Mapping, Sequence

from vestry_client.plan_fit import PlanFit
from vestry_privacy.ledger_report import PopulationReport, StudyReport

__all__ = ["epsilon_text", "population_tables"]

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""Title, columns, rows."""


def epsilon_text(value: float | None) -> str:
    """An epsilon for people; a dash where an accountant has none."""
    return "–" if value is None else f"{value:.4g}"


def population_tables(found: PopulationReport, fit: PlanFit | None) -> Iterator[Table]:
    """A population's budget, and its studies where there are any.

    Args:
        found: of the report.
        fit: how a study fits, where one was asked about.
    """
    yield f"population {found.population.name}", ("what", "value"), list(_budget(found, fit))
    if found.studies:
        accountants = list(found.studies[0].epsilon_planned)
        planned = [f"planned\n{name.upper()}>" for name in accountants]
        spent = [f"spent\n{name.upper()}>" for name in accountants]
        columns = ("study", "state", "guarantee", "rounds", *planned, *spent, "of budget>")
        yield f"studies of {found.population.name}: epsilon", columns, [_study(s) for s in found.studies]


def _budget(found: PopulationReport, fit: PlanFit | None) -> Iterator[tuple[str, str]]:
    population, budget = found.population, found.population.budget
    row = ", declared: every row is another person" if found.row_is_person else ""
    persons = "number not public" if population.persons is None else f"{population.persons} declared"
    yield "who is protected", f"{population.unit}, {persons}, {population.adjacency}{row}"
    window = "for life" if budget.starts is None else f"{budget.starts} to {budget.ends}"
    closed = "" if found.open_today else ", closed today"
    yield "budget", f"epsilon {budget.epsilon:g} at delta {budget.delta:g}, {window}{closed}"
    yield "guarantee", population.guarantee
    yield f"filter (order {budget.order:g}): claimed", f"epsilon {epsilon_text(found.claimed_epsilon)}"
    yield f"filter (order {budget.order:g}): left", f"epsilon {epsilon_text(found.left_epsilon)}"
    for accountant, value in found.estimate_spent.items():
        left = found.estimate_left.get(accountant)
        yield (
            f"{accountant.upper()}, an estimate: spent, left",
            f"epsilon {epsilon_text(value)}, {epsilon_text(left)}",
        )
    adds = f", adds up with {', '.join(found.adds_up_with)}" if found.adds_up_with else ""
    yield "overlap with other populations", found.overlap + adds
    if found.amended:
        yield "amended", f"{found.amended} times"
    if fit is not None:
        yield from _fit(fit)


def _fit(fit: PlanFit) -> Iterator[tuple[str, str]]:
    if fit.epsilon is not None:
        yield f"{fit.study}: PLD epsilon of its plan", epsilon_text(fit.epsilon)
    if fit.reason is not None:
        yield f"{fit.study}: does not fit", fit.reason
        return
    yield f"{fit.study}: more such studies that fit", str(fit.studies)
    yield f"{fit.study}: more of its rounds that fit", str(fit.rounds)


def _study(study: StudyReport) -> tuple[str, ...]:
    return (
        f"{study.name} {study.study_hash[:12]}",
        study.state,
        study.guarantee,
        _rounds(study.rounds),
        *map(epsilon_text, study.epsilon_planned.values()),
        *map(epsilon_text, study.epsilon_spent.values()),
        f"{study.claimed:.0%}",
    )


def _rounds(rounds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in rounds.items()) or "none"
