"""What the past forbids: each rule by itself, and the order of heads."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.privacy.secagg.journals import ROSTER, digest, head_of, make_plan, make_rules, roster_of
from vestry_privacy.secagg.errors import Repeated, RolledBack, RosterRefused, WrongStep
from vestry_privacy.secagg.history import NO_HEAD, Accepted, Head, History, Rules, after_input, check_peer


def past(*plans: Accepted, consumed: bool = True) -> History:
    """A history of plans that were let in and, unless said otherwise, consumed."""
    history = History()
    for plan in plans:
        history.check_accept(plan)
        history.accept(plan)
        if consumed:
            history.check_consume(plan.plan)
            history.consume(plan.plan)
    return history


def test_a_plan_is_accepted_once() -> None:
    history = past(make_plan(1), consumed=False)
    with pytest.raises(Repeated, match=r"in round 1: plan: this site has seen it before") as refusal:
        history.check_accept(make_plan(1))
    assert refusal.value.round == 1


@pytest.mark.parametrize("sequence", [1, 4, 5])
def test_sequence_numbers_only_grow(sequence: int) -> None:
    history = past(make_plan(5), consumed=False)
    late = make_plan(6, sequence=sequence)
    with pytest.raises(Repeated, match=f"{sequence} is not above 5"):
        history.check_accept(late)
    history.check_accept(replace(late, run="another"))
    history.check_accept(replace(late, rules=make_rules(study=digest("another"))))
    history.check_accept(replace(late, sequence=6))


def test_all_kinds_share_the_sequence() -> None:
    history = past(make_plan(5), consumed=False)
    with pytest.raises(Repeated, match="sequence"):
        history.check_accept(make_plan(6, kind="evaluate", sequence=5))


def test_a_site_counts_its_inputs_itself() -> None:
    rules = make_rules(rounds_allowed=2)
    history = past(make_plan(1, rules), make_plan(2, rules))
    third = make_plan(3, rules)
    with pytest.raises(Repeated, match=r"2 sums of kind train have had this site's input; 2 may"):
        history.check_accept(third)
    history.check_accept(replace(third, kind="evaluate"))
    history.check_accept(replace(third, rules=replace(rules, study=digest("another"))))
    with pytest.raises(Repeated):  # another data set is no new count
        history.check_accept(replace(third, rules=replace(rules, dataset="echo")))


def test_what_was_only_accepted_is_not_counted() -> None:
    rules = make_rules(rounds_allowed=1)
    history = past(make_plan(1, rules), make_plan(2, rules), consumed=False)
    history.check_accept(make_plan(3, rules))
    history.consume(make_plan(1).plan)
    with pytest.raises(Repeated):
        history.check_accept(make_plan(3, rules))
    with pytest.raises(Repeated, match="rounds of the study"):  # it was let in when none had left
        history.check_consume(make_plan(2).plan)


def test_a_model_is_summed_once_across_studies_and_runs() -> None:
    history = past(make_plan(1))
    again = make_plan(2, model=digest(("model", 1)))
    others = (
        replace(again, run="another"),
        replace(again, rules=make_rules(study=digest("another"))),
        replace(again, roster=roster_of("a", "b", "c")),
        again,
    )
    for plan in others:
        with pytest.raises(Repeated, match="without local noise that is once"):
            history.check_accept(plan)
    history.check_accept(replace(again, kind="evaluate"))
    history.check_accept(replace(again, rules=make_rules(dataset="echo")))


def test_a_model_that_was_only_accepted_may_be_tried_again() -> None:
    history = past(make_plan(1), consumed=False)
    again = make_plan(2, model=digest(("model", 1)))
    history.check_accept(again)
    history.accept(again)
    history.consume(again.plan)
    with pytest.raises(Repeated, match="model"):  # the first attempt is still open, and too late
        history.check_consume(make_plan(1).plan)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_under_local_noise_a_model_is_repeated_so_often(most: int) -> None:
    rules = make_rules(may_repeat=True, max_repeats=most)
    history, model = past(), digest("one model")
    for number in range(1, most + 2):
        plan = make_plan(number, rules, model=model)
        history.check_accept(plan)
        history.accept(plan)
        history.check_consume(plan.plan)
        history.consume(plan.plan)
    with pytest.raises(Repeated, match=f"has left {most + 1} times; the policy allows max_repeats = {most}"):
        history.check_accept(make_plan(most + 2, rules, model=model))


def test_a_roster_is_the_same_or_differs_enough() -> None:
    history = past(make_plan(1))
    for other, change in ((ROSTER[1:], 1), ((*ROSTER, digest("new")), 1)):
        near = make_plan(2, roster=tuple(sorted(other)))
        with pytest.raises(
            RosterRefused, match=rf"differs by {change} from an earlier one on data set 'angio'"
        ):
            history.check_accept(near)
        history.check_accept(replace(near, rules=make_rules(dataset="echo")))
        history.check_accept(replace(near, rules=make_rules(roster_change=1)))
    history.check_accept(make_plan(2))
    history.check_accept(make_plan(2, roster=ROSTER[2:]))


def test_rosters_count_once_input_has_left() -> None:
    near = make_plan(2, roster=ROSTER[1:])
    history = past(make_plan(1), near, consumed=False)
    history.consume(near.plan)
    with pytest.raises(RosterRefused):  # both were let in, and only one may be summed
        history.check_consume(make_plan(1).plan)


def apart(one: set[int], other: set[int]) -> int:
    return max(len(one - other), len(other - one))


SITES = st.sets(st.integers(0, 7), min_size=3, max_size=8)


@given(st.lists(SITES, min_size=1, max_size=8), st.integers(1, 5))
def test_no_two_summed_rosters_are_close(rosters: list[set[int]], change: int) -> None:
    history, rules, summed = History(), make_rules(roster_change=change), list[set[int]]()
    for number, sites in enumerate(rosters, 1):
        plan = make_plan(number, rules, roster=roster_of(*sites))
        close = any(0 < apart(sites, other) < change for other in summed)
        if close:
            with pytest.raises(RosterRefused):
                history.check_accept(plan)
        else:
            history.check_accept(plan)
            history.accept(plan)
            history.check_consume(plan.plan)
            history.consume(plan.plan)
            summed.append(sites)
    assert not any(0 < apart(one, other) < change for one in summed for other in summed)


def test_one_site_swapped_for_another_is_close() -> None:
    """Of a helper of the server its part is known, so the difference is the other's update."""
    history = past(make_plan(1, roster=roster_of(0, 1, 2, 3)))
    with pytest.raises(RosterRefused, match="differs by 1"):
        history.check_accept(make_plan(2, roster=roster_of(0, 1, 2, 4)))
    history.check_accept(make_plan(2, roster=roster_of(0, 1, 4, 5)))


def test_another_model_for_a_round_is_the_round_again() -> None:
    history = past(make_plan(1))
    again = make_plan(2, round=1)
    assert again.model != make_plan(1).model
    with pytest.raises(Repeated, match="has left before"):
        history.check_accept(again)
    history.check_accept(replace(again, rules=make_rules(study=digest("another"))))
    history.check_accept(replace(again, rules=make_rules(may_repeat=True)))


def test_a_study_has_one_weight_limit() -> None:
    """Two limits cut the heavier sites' weights in two ways, and the difference tells them."""
    history = past(make_plan(1, make_rules(weight_limit=500)))
    with pytest.raises(Repeated, match="46 is not 500"):
        history.check_accept(make_plan(2, make_rules(weight_limit=46)))
    history.check_accept(make_plan(2, make_rules(weight_limit=500)))
    history.check_accept(make_plan(2, make_rules(weight_limit=0)))
    other = make_rules(weight_limit=46, study=digest("another"))
    history.check_accept(make_plan(2, other))


def test_steps_have_an_order_and_happen_once() -> None:
    history, plan = past(make_plan(1), consumed=False), make_plan(1).plan
    steps = (
        (history.check_consume, history.consume),
        (history.check_sign, history.sign),
        (history.check_reveal, history.reveal),
    )
    for place, (_, done) in enumerate(steps):
        for later, _ in steps[place + 1 :]:
            with pytest.raises(WrongStep, match="of a plan that is only"):
                later(plan)
        steps[place][0](plan)
        done(plan)
        for earlier, _ in steps[: place + 1]:
            with pytest.raises(Repeated, match="may have left this site already"):
                earlier(plan)
    for check, _ in steps:
        with pytest.raises(WrongStep, match="has not accepted"):
            check(digest("unknown"))


def test_a_refusal_changes_nothing() -> None:
    history = past(make_plan(1))
    before = repr(history)
    for plan in (make_plan(1), make_plan(2, roster=ROSTER[1:]), make_plan(2, model=make_plan(1).model)):
        with pytest.raises((Repeated, RosterRefused)):
            history.check_accept(plan)
    assert repr(history) == before


HEADS = st.builds(head_of, st.integers(0, 3), st.integers(0, 2), st.sampled_from(["", "x"]))


def test_the_first_head_of_a_site_is_taken() -> None:
    for head in (NO_HEAD, head_of(9), head_of(1, 4)):
        check_peer(None, head, "south")


@given(HEADS, HEADS)
def test_a_head_is_the_same_or_newer(before: Head, now: Head) -> None:
    older = (now.epoch, now.count) < (before.epoch, before.count)
    forked = (now.epoch, now.count) == (before.epoch, before.count) and now.hash != before.hash
    if older or forked:
        with pytest.raises(RolledBack, match="restored") as refusal:
            check_peer(before, now, "south")
        assert refusal.value.peer == "south"
        assert "site 'south'" in str(refusal.value)
        assert "declare-lost" in str(refusal.value)
    else:
        check_peer(before, now, "south")


@given(st.lists(HEADS, max_size=8))
def test_what_is_taken_only_grows(heads: list[Head]) -> None:
    newest: Head | None = None
    for head in heads:
        try:
            check_peer(newest, head, "south")
        except RolledBack:
            continue
        assert newest is None or (newest.epoch, newest.count) <= (head.epoch, head.count)
        newest = head


def test_rules_are_plain_values() -> None:
    assert make_rules() == Rules("angio", digest("study"), 1000, False, 3, 2)
    assert make_plan(1).key == ("angio", "train", digest(("model", 1)))


def test_a_seen_input_brings_a_peer_forward_by_one() -> None:
    said = Head(1, 4, b"h" * 32)
    assert after_input(None, said) == (Head(1, 5, bytes(32)), NO_HEAD)
    ledger = Head(0, 9, b"l" * 32)
    assert after_input((said, ledger), said) == (Head(1, 5, bytes(32)), ledger)
    further = Head(1, 7, b"f" * 32)
    assert after_input((further, ledger), said) == (further, ledger)
    assert after_input((Head(0, 50, b"o" * 32), ledger), said)[0] == Head(1, 5, bytes(32))


def test_an_input_that_was_seen_is_known_by_its_count_until_its_hash_comes() -> None:
    seen = Head(1, 5, bytes(32))
    check_peer(seen, Head(1, 5, b"x" * 32), "north")
    check_peer(seen, Head(1, 6, b"x" * 32), "north")
    with pytest.raises(RolledBack, match="older"):
        check_peer(seen, Head(1, 4, b"x" * 32), "north")
    with pytest.raises(RolledBack, match="another branch"):
        check_peer(Head(1, 5, b"y" * 32), Head(1, 5, b"x" * 32), "north")
