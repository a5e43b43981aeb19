"""A plan that is not the one the site computes is refused before a key leaves, whatever the field."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.client.bench import OPEN, make_study
from tests.client.secure_bench import NAMES, SECURE, Federation, open_federation
from vestry_client.handlers import handle
from vestry_client.policy import SitePolicy
from vestry_privacy.secagg.encoding import field
from vestry_privacy.secagg.history import NO_HEAD
from vestry_privacy.secagg.messages import sign_plan
from vestry_privacy.secagg.plan import Plan
from vestry_strategies.orders import Refusal, Reply, SecureOrder, SecureReply
from vestry_strategies.secure_plan import SumKind

COHORT = ("secure = true", "secure = true\ncohort = 4\nmin_sites = 3")
SAMPLED = OPEN.model_copy(update={"min_cohort": 3, "max_colluding_sites": 1, "roster_change": 1})


def keys(federation: Federation, plan: Plan) -> SecureOrder:
    """An order for keys; the plan is signed whatever it says."""
    signed = sign_plan(plan, federation.coordinator)
    return SecureOrder(federation.study.to_json(), "keys", plan.digest.hex(), signed)


def offer(federation: Federation, plan: Plan) -> Reply:
    """Ask a site for keys."""
    return handle(federation.sites["north"], keys(federation, plan))


def nothing_left(federation: Federation, reply: Reply, code: str = "secure", name: str = "north") -> str:
    """The site has refused, written nothing and keeps no secret of a sum."""
    assert isinstance(reply, Refusal), reply
    assert reply.code == code, reply
    seat = federation.sites[name].secure
    assert seat is not None
    assert seat.journal.head().count == NO_HEAD.count
    assert not seat._live
    return reply.message


ANOTHER = bytes(31) + b"x"
CHANGES: dict[str, Callable[[Plan], Plan]] = {
    "plan.study": lambda plan: replace(plan, study=ANOTHER),
    "plan.threshold": lambda plan: replace(plan, threshold=2),
    "plan.threshold: 4": lambda plan: replace(plan, threshold=4),
    "plan.least: 2": lambda plan: replace(plan, least=2),
    "plan.least: is 4": lambda plan: replace(plan, least=4),
    "plan.lane_bits": lambda plan: replace(plan, lane_bits=16),
    "plan.value_range": lambda plan: replace(plan, value_range=1e-3),
    "plan.weight_limit: 0": lambda plan: replace(plan, weight_limit=0),
    "plan.weight_limit: 1099511627777": lambda plan: replace(plan, weight_limit=2**40 + 1),
    "plan.values": lambda plan: replace(plan, values=plan.values + 1),
    "plan.wide": lambda plan: replace(plan, wide=plan.wide + 1),
    "plan.code": lambda plan: replace(plan, code=ANOTHER),
    "plan.privacy": lambda plan: replace(plan, privacy=b"epsilon 1000"),
    "plan.deadline": lambda plan: replace(plan, deadline=1.0),
    "plan.directory": lambda plan: replace(plan, directory=plan.directory + 1),
    "plan.roster: 2 sites": lambda plan: replace(plan, roster=plan.roster[:2]),
    "plan.roster: it has 3 of the 4": lambda plan: replace(plan, roster=plan.roster[:3], threshold=3),
    "plan.roster: its entries": lambda plan: replace(plan, roster=plan.roster[::-1]),
    "it has 4 of the 4": lambda plan: replace(plan, roster=tuple(sorted((*plan.roster[:3], ANOTHER)))),
    "plan.round: 0": lambda plan: replace(plan, round=0),
    "plan.round: 5": lambda plan: replace(plan, round=5),
    "plan.kind": lambda plan: replace(plan, kind="inspect"),
    "plan.sequence": lambda plan: replace(plan, sequence=0),
}


@pytest.mark.parametrize("said", CHANGES)
def test_a_plan_of_another_mind_is_refused(said: str, tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        plan = CHANGES[said](federation.plan(federation.order("train")))
        assert said in nothing_left(federation, offer(federation, plan))


def test_a_range_without_end_is_refused(tmp_path: Path) -> None:
    """Such a plan cannot be made here; a coordinator could still send its bytes."""
    with open_federation(tmp_path) as federation:
        plan = federation.plan(federation.order("train")).encode()
        eight, endless = b"\x40\x20" + bytes(6), b"\x7f\xf0" + bytes(6)
        assert plan.count(eight) == 1
        spoilt = plan.replace(eight, endless)
        signed = field(spoilt) + field(federation.coordinator.sign(spoilt))
        order = SecureOrder(federation.study.to_json(), "keys", "0" * 64, signed)
        said = nothing_left(federation, handle(federation.sites["north"], order))
        assert "a number is not finite" in said


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("statistics", {"round": 1}, "plan.round"),
        ("statistics", {"model": ANOTHER}, "plan.model"),
        ("statistics", {"configuration": ANOTHER}, "plan.configuration"),
        ("statistics", {"weight_limit": 5}, "plan.weight_limit"),
        ("evaluate", {"weight_limit": 5}, "plan.weight_limit"),
        ("evaluate", {"round": 3}, "plan.round"),
        ("evaluate", {"values": 7}, "plan.values"),
        ("train", {"kind": "evaluate"}, "plan.values"),
    ],
)
def test_each_kind_has_its_own_rules(
    kind: SumKind, change: dict[str, object], said: str, tmp_path: Path
) -> None:
    every = ("[evaluation]", "[evaluation]\nevery = 2")
    with open_federation(tmp_path, every) as federation:
        number = 2 if kind == "evaluate" or "kind" in change else 1
        plan = replace(federation.plan(federation.order(kind, number)), **change)  # type: ignore[arg-type]
        assert said in nothing_left(federation, offer(federation, plan))


def test_with_equal_weighting_every_site_weighs_one(tmp_path: Path) -> None:
    equal = ("secure = true", 'secure = true\nweighting = "equal"')
    with open_federation(tmp_path, equal) as federation:
        plan = federation.plan(federation.order("train"))
        said = nothing_left(federation, offer(federation, replace(plan, weight_limit=2)))
        assert "plan.weight_limit" in said
        assert isinstance(offer(federation, plan), SecureReply)


def test_a_plan_is_signed_by_the_coordinator_that_the_site_has_pinned(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        seat = federation.sites["south"].secure
        assert seat is not None
        federation.coordinator = seat.identity
        plan = federation.plan(federation.order("train"))
        said = nothing_left(federation, offer(federation, plan))
        assert "signature of the plan: does not hold" in said


def test_the_order_names_the_plan_that_it_brings(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        plan = federation.plan(federation.order("train"))
        order = replace(keys(federation, plan), plan="0" * 64)
        said = nothing_left(federation, handle(federation.sites["north"], order))
        assert "order.plan: is the hash of another plan" in said


def test_the_order_is_of_the_plans_study(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        plan = federation.plan(federation.order("train"))
        other = make_study(SECURE, ("seed = 5", "seed = 6")).to_json()
        order = replace(keys(federation, plan), study=other)
        assert "plan.study" in nothing_left(federation, handle(federation.sites["north"], order))
        assert isinstance(offer(federation, plan), SecureReply)
        order = SecureOrder(other, "shares", plan.digest.hex(), b"")
        reply = handle(federation.sites["north"], order)
        assert isinstance(reply, Refusal)
        assert "plan.study" in reply.message


def test_sequence_numbers_only_grow(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        plan = federation.plan(federation.order("train"))
        assert isinstance(offer(federation, plan), SecureReply)
        for number, code in ((plan.sequence, "secure"), (plan.sequence + 1, "")):
            reply = offer(federation, replace(plan, sequence=number, model=ANOTHER))
            assert isinstance(reply, Refusal) == bool(code), reply


def test_a_study_without_privacy_sums_a_model_once(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        federation.sum(federation.order("train"))
        reply = offer(federation, federation.plan(federation.order("train")))
        assert isinstance(reply, Refusal)
        assert "allow_repeats_without_privacy" in reply.message


@pytest.mark.parametrize("kind", ["train", "evaluate", "statistics"])
def test_a_study_has_its_rounds_and_no_more(kind: SumKind, tmp_path: Path) -> None:
    """Other models, another run: the site counts for itself, so there are no sums without end."""
    policy = OPEN.model_copy(
        update={"min_cohort": 3, "allow_repeats_without_privacy": True, "max_repeats": 1}
    )
    with open_federation(tmp_path, ("rounds = 4", "rounds = 2"), policy=policy) as federation:
        allowed = {"statistics": 2, "train": 3, "evaluate": 3}[kind]
        for number in range(allowed):
            federation.run = f"run {number}"
            federation.sum(federation.order(kind, 1 + number % 2))
        federation.run = "another"
        reply = offer(federation, federation.plan(federation.order(kind)))
        assert isinstance(reply, Refusal)
        assert "have had this site's input" in reply.message or "max_repeats" in reply.message


def cohort(federation: Federation, names: tuple[str, ...]) -> Plan:
    plan = federation.plan(federation.order("train"))
    roster = federation.directory.roster(names)
    return replace(plan, roster=roster, threshold=2 * len(roster) // 3 + 1)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (SAMPLED, ""),
        (SAMPLED.model_copy(update={"max_colluding_sites": None}), "max_colluding_sites"),
        (SAMPLED.model_copy(update={"max_colluding_sites": 2}), "max_colluding_sites"),
        (SAMPLED.model_copy(update={"max_colluding_sites": 0}), ""),
    ],
)
def test_a_drawn_cohort_is_let_in_where_study_and_policy_have_it_so(
    policy: SitePolicy, said: str, tmp_path: Path
) -> None:
    with open_federation(tmp_path, COHORT, sites=5, policy=policy) as federation:
        reply = offer(federation, cohort(federation, NAMES[:4]))
        if not said:
            assert isinstance(reply, SecureReply)
        else:
            assert said in nothing_left(federation, reply, "policy")


def test_another_cohort_than_the_studys_is_refused(tmp_path: Path) -> None:
    with open_federation(tmp_path, COHORT, sites=5, policy=SAMPLED) as federation:
        assert "plan.roster" in nothing_left(federation, offer(federation, cohort(federation, NAMES[:3])))
        without = offer(federation, cohort(federation, NAMES[1:]))
        assert "has no seat in this sum" in nothing_left(federation, without)
        evaluation = federation.plan(federation.order("evaluate"))
        roster = federation.directory.roster(NAMES[:4])
        evaluation = replace(evaluation, roster=roster, threshold=3)
        assert "plan.roster" in nothing_left(federation, offer(federation, evaluation))
        whole = federation.plan(federation.order("train"))
        assert isinstance(offer(federation, whole), SecureReply)


def test_the_policy_is_asked_before_the_plan_is_read(tmp_path: Path) -> None:
    strict = OPEN.model_copy(update={"min_cohort": 5})
    with open_federation(tmp_path, policy=strict) as federation:
        plan = federation.plan(federation.order("train"))
        assert "min_cohort" in nothing_left(federation, offer(federation, plan), "policy")


def test_a_plan_that_is_none_is_refused(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        for message in (b"", b"\x00" * 80, b"\xff" * 8):
            order = SecureOrder(federation.study.to_json(), "keys", "0" * 64, message)
            nothing_left(federation, handle(federation.sites["north"], order))
