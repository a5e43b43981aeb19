"""Plans and steps of a site's journal for tests, by small numbers."""

import hashlib
from typing import Any

from vestry_privacy.secagg.history import Accepted, Head, Rules
from vestry_privacy.secagg.journal import Journal

__all__ = [
    "ROSTER",
    "begin",
    "digest",
    "head_of",
    "make_plan",
    "make_rules",
    "ready_to",
    "roster_of",
    "take_part",
]


def digest(name: object) -> bytes:
    """32 bytes by a name."""
    return hashlib.sha256(str(name).encode()).digest()


def head_of(count: int, epoch: int = 0, branch: str = "") -> Head:
    """A head of another site."""
    return Head(epoch, count, digest(f"{epoch} {count} {branch}"))


def roster_of(*names: object) -> tuple[bytes, ...]:
    """A roster of sites by name."""
    return tuple(sorted(digest(("site", name)) for name in names))


ROSTER = roster_of(*range(5))


def make_rules(**changes: Any) -> Rules:
    """A study of many rounds whose models are summed once."""
    settings: dict[str, Any] = {
        "dataset": "angio",
        "study": digest("study"),
        "rounds_allowed": 1000,
        "may_repeat": False,
        "max_repeats": 3,
        "roster_change": 2,
    }
    return Rules(**{**settings, **changes})


def make_plan(number: int, rules: Rules | None = None, **changes: Any) -> Accepted:
    """Training round ``number``, its own model, sequence number and plan hash."""
    settings: dict[str, Any] = {
        "plan": digest(("plan", number)),
        "run": "run",
        "kind": "train",
        "sequence": number,
        "round": number,
        "roster": ROSTER,
        "model": digest(("model", number)),
        "rules": rules or make_rules(),
    }
    return Accepted(**{**settings, **changes})


def begin(journal: Journal, plan: Accepted) -> bytes:
    """Accept a plan; returns its hash."""
    journal.accept(
        plan.plan, plan.run, plan.kind, plan.sequence, plan.round, plan.roster, plan.model, plan.rules
    )
    return plan.plan


def ready_to(journal: Journal, step: str, number: int, rules: Rules | None = None, **changes: Any) -> bytes:
    """Bring a plan before a step: ``consume``, ``sign``, ``reveal`` or ``end``."""
    plan = begin(journal, make_plan(number, rules, **changes))
    order = ("consume", "sign", "reveal", "end")
    for done in order[: order.index(step)]:
        if done == "sign":
            journal.sign(plan, digest("view"))
        else:
            getattr(journal, done)(plan)
    return plan


def take_part(journal: Journal, number: int, rules: Rules | None = None, **changes: Any) -> bytes:
    """Go through a whole sum."""
    return ready_to(journal, "end", number, rules, **changes)
