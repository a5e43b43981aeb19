"""Secure sums under [privacy]: let in before keys leave, charged before data are read, repeated at a cost."""

from pathlib import Path

import numpy as np
import pytest

import vestry_client.replies as replies_module
from tests.client.clinic import (
    guaranteed_study,
    make_policy,
    make_rules,
    private_study,
    site_rules,
    site_study,
)
from tests.client.secure_bench import SECURE, Federation, Lead, private_federation
from vestry_client.policy import SitePolicy
from vestry_privacy.ledger import Ledger
from vestry_privacy.secagg.errors import TooFewSites
from vestry_privacy.secagg.history import NO_HEAD, Head
from vestry_strategies.orders import MaskedReply, Refusal, SecureReply
from vestry_strategies.secure_plan import SumKind
from vestry_strategies.study import StudySpec

STUDY = private_study(SECURE)
SIMULATED = private_study(SECURE, ("delta = 1e-5", 'delta = 1e-5\nnoise = "simulation"'))


def policy(**changes: object) -> SitePolicy:
    return make_policy(make_rules(**changes), allow_individual_updates=False, min_cohort=3, max_repeats=2)


def ledger(federation: Federation, name: str = "north") -> Ledger:
    found = federation.sites[name].ledger
    assert found is not None
    return found


def kinds(federation: Federation, name: str = "north") -> list[str]:
    """Kinds of a ledger's entries, those of the site's own set-up left out."""
    made = {"create", "register", "dataset"}
    return [entry.kind for entry in ledger(federation, name).entries() if entry.kind not in made]


def charged(federation: Federation) -> int:
    events = ledger(federation).spent(federation.study.digest(), "train")
    return sum(event.count for event in events)


def refusal(lead: Lead, name: str, step: str, code: str) -> str:
    found = lead.refused(name, step)
    assert found.code == code, found
    return found.message


def ready(federation: Federation, kind: SumKind = "train", number: int = 1) -> Lead:
    lead = federation.begin(federation.plan(federation.order(kind, number)))
    assert len(federation.until_input(lead, {})) == 4
    return lead


def test_a_study_with_privacy_is_summed_and_charged_as_in_the_clear(tmp_path: Path) -> None:
    with private_federation(tmp_path, STUDY) as federation:
        sums: list[SumKind] = ["statistics", "train", "evaluate"]
        for kind in sums:
            lead = federation.sum(federation.order(kind))
            assert lead.sum.weight == (200 if kind == "train" else 4)
            for name in federation.sites:
                reply = lead.masked(name)
                assert reply.weight == 50
                assert reply.guarantee == ("cryptographic" if kind == "statistics" else "")
                assert bool(reply.spent) == (kind == "train")
        assert kinds(federation) == ["hold", *["reserve", "commit"] * 3]


def test_weights_are_public_numbers_and_losses_do_not_exist(tmp_path: Path) -> None:
    with private_federation(tmp_path, STUDY) as federation:
        lead = federation.sum(federation.order("train"), south="input")
        assert lead.sum.weight == 3 * 50
        assert len(lead.sum.wide) == 0
        assert lead.masked("north").steps == 2


def test_noised_statistics_are_near_the_exact_ones(tmp_path: Path) -> None:
    rules = make_rules(exact_sums=True)
    exact = make_policy(rules, allow_individual_updates=False, min_cohort=3)
    with private_federation(tmp_path, STUDY, policy=exact) as federation:
        lead = federation.sum(federation.order("statistics"))
        persons = federation.read(lead, "statistics")["persons"][0]
        held = [len(site.data(federation.bench).train) for site in federation.sites.values()]
        assert persons == pytest.approx(sum(held) / 2)  # two rows of each
        assert lead.masked("north").guarantee == "none"


@pytest.mark.parametrize(
    ("study", "rules"),
    [
        (site_study(SECURE), site_rules()),
        (guaranteed_study("site", SECURE), make_rules()),
        (guaranteed_study("server", SECURE), make_rules(allow_site_noise_at_server=True)),
    ],
)
def test_where_no_statistics_leave_their_sum_is_of_weights_alone(
    study: StudySpec, rules: object, tmp_path: Path
) -> None:
    allowed = make_policy(rules, allow_individual_updates=False, min_cohort=3)  # type: ignore[arg-type]
    with private_federation(tmp_path, study, policy=allowed) as federation:
        lead = federation.sum(federation.order("statistics"))
        assert (lead.sum.weight, len(lead.sum.wide), len(lead.sum.values)) == (4, 0, 0)
        assert kinds(federation) == ["hold"]
        trained = federation.sum(federation.order("train"))
        assert trained.sum.weight == sum(trained.masked(name).weight or 0 for name in federation.sites)
        evaluation = federation.begin(federation.plan(federation.order("train", 2), values=0, wide=1))
        assert isinstance(
            federation.step(evaluation, "north", "keys", evaluation.server.signed_plan), Refusal
        )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"metrics": ()}, "policy"),
        ({"max_steps": 3}, "policy"),
        ({"max_epsilon_per_study": 0.5}, "policy"),
    ],
)
def test_who_refuses_does_so_before_a_key_leaves(
    changes: dict[str, object], code: str, tmp_path: Path
) -> None:
    with private_federation(tmp_path, STUDY) as federation:
        federation.sites["north"].policy = policy(**changes)
        lead = federation.sum(federation.order("train"))
        refusal(lead, "north", "keys", code)
        assert set(lead.server.u1) == {"south", "west", "east"} == set(lead.server.u3)
        assert kinds(federation) == []
        seat = federation.sites["north"].secure
        assert seat is not None
        assert seat.journal.head().count == 0


def test_without_a_ledger_nobody_is_in_a_sum(tmp_path: Path) -> None:
    with private_federation(tmp_path, STUDY) as federation:
        federation.sites["north"].ledger = None
        lead = federation.sum(federation.order("train"))
        refusal(lead, "north", "keys", "policy")


def test_the_budget_is_held_with_the_keys_and_charged_with_the_input(tmp_path: Path) -> None:
    with private_federation(tmp_path, STUDY) as federation:
        lead = ready(federation)
        assert kinds(federation) == ["hold"]
        federation.input(lead, "north", federation.order("train"))
        assert kinds(federation) == ["hold", "reserve", "commit"]


def test_a_duplicate_is_not_charged_again(tmp_path: Path) -> None:
    with private_federation(tmp_path, STUDY) as federation:
        lead, order = ready(federation), federation.order("train")
        first = federation.input(lead, "north", order)
        assert isinstance(first, MaskedReply)
        lead.server._inputs.clear()  # the reply was lost on its way
        again = federation.input(lead, "north", order)
        assert isinstance(again, MaskedReply)
        assert np.array_equal(first.vector, again.vector)
        assert kinds(federation) == ["hold", "reserve", "commit"]


def failed(federation: Federation, number: int = 1) -> Lead:
    """A sum that all sites have given input to, and that is never unmasked."""
    lead, order = ready(federation, "train", number), federation.order("train", number)
    for name in federation.sites:
        assert isinstance(federation.input(lead, name, order), MaskedReply)
    lead.server.survivors()
    with pytest.raises(TooFewSites):
        lead.server.unmask()
    return lead


def test_a_failed_round_is_repeated_with_fresh_noise_and_a_fresh_charge(tmp_path: Path) -> None:
    with private_federation(tmp_path, STUDY, policy=policy()) as federation:
        failed(federation)
        once = charged(federation)
        assert once == 2
        lead = federation.sum(federation.order("train"))
        assert charged(federation) == 2 * once
        assert kinds(federation) == ["hold", "reserve", "commit", "reserve", "commit"]
        assert len(lead.masked("north").spent) >= 1
        federation.sum(federation.order("train", 2))
        assert charged(federation) == 3 * once


def test_repeats_have_an_end(tmp_path: Path) -> None:
    with private_federation(tmp_path, STUDY, policy=policy()) as federation:
        for _ in range(3):
            failed(federation)
        lead = federation.begin(federation.plan(federation.order("train")))
        federation.step(lead, "north", "keys", lead.server.signed_plan)
        assert "max_repeats = 2" in refusal(lead, "north", "keys", "secure")


def test_noise_that_can_be_foretold_bounds_no_repeat(tmp_path: Path) -> None:
    with private_federation(tmp_path, SIMULATED, policy=policy(secure_noise=False)) as federation:
        failed(federation)
        lead = federation.begin(federation.plan(federation.order("train")))
        federation.step(lead, "north", "keys", lead.server.signed_plan)
        assert "without local noise that is once" in refusal(lead, "north", "keys", "secure")
        assert charged(federation) == 2


def test_a_restart_after_the_input_is_a_drop_out_and_stays_charged(tmp_path: Path) -> None:
    with private_federation(tmp_path, STUDY, policy=policy()) as federation:
        lead, order = ready(federation), federation.order("train")
        for name in federation.sites:
            federation.input(lead, name, order)
        federation.restart("north")
        reply = federation.input(lead, "north", order)
        assert isinstance(reply, Refusal)
        assert "no longer has the secrets" in reply.message
        federation.unmask(lead, {"north": "survivors"})
        assert lead.sum.sites == 4  # its input is in the sum: the others unmask it
        assert charged(federation) == 2


def test_a_reply_that_cannot_be_kept_is_not_sent_and_counts_as_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with private_federation(tmp_path, STUDY, policy=policy()) as federation:
        lead, order = ready(federation), federation.order("train")
        with monkeypatch.context() as patch:
            patch.setattr(replies_module, "write_atomically", full)
            reply = federation.input(lead, "north", order)
        assert isinstance(reply, Refusal)
        assert reply.code == "ledger"
        assert charged(federation) == 2
        again = federation.input(lead, "north", order)
        assert isinstance(again, Refusal)
        assert "nothing more of it leaves" in again.message
        for name in ("south", "west", "east"):
            federation.input(lead, name, order)
        federation.unmask(lead, {})
        assert set(lead.server.u3) == {"south", "west", "east"}


def test_nothing_is_read_or_charged_for_another_model(tmp_path: Path) -> None:
    with private_federation(tmp_path, STUDY) as federation:
        lead = ready(federation)
        reply = federation.input(lead, "north", federation.order("train", 1, model=federation.model(2)))
        assert isinstance(reply, Refusal)
        assert "order.model" in reply.message
        assert kinds(federation) == ["hold"]


def test_what_is_told_of_the_ledger_moves_with_what_was_charged(tmp_path: Path) -> None:
    """A coordinator can provoke holds; if they counted, it could lead a restored ledger past its peers."""
    with private_federation(tmp_path, STUDY) as federation:
        told = []
        for kind in ("statistics", "train"):
            plan = federation.plan(federation.order(kind))
            lead = federation.begin(plan)
            reply = federation.step(lead, "north", "keys", lead.server.signed_plan)
            assert isinstance(reply, SecureReply)
            lead.server.collect_keys("north", reply.message)
            told += [of_ledger for _, of_ledger in lead.server._heads.values()]
            assert kinds(federation)[0] == "hold"
            if kind == "statistics":
                federation.sum(federation.order(kind))
        epoch, newest = ledger(federation).witness
        assert told[0] == NO_HEAD
        assert told[1] == Head(epoch, newest.seq, bytes.fromhex(newest.hash))
        assert newest.seq > 0


def test_a_round_goes_on_where_an_update_holds_what_is_not_finite(tmp_path: Path) -> None:
    """unit = 'site': zeroed as by clipping, then noised; a refusal would tell something of the data."""
    rules = make_policy(site_rules(), allow_individual_updates=False, min_cohort=3)
    study = site_study(SECURE, ("learning_rate = 0.1", "learning_rate = 1e30"), ('"logistic"', '"mlp"'))
    with private_federation(tmp_path, study, policy=rules) as federation:
        lead = federation.sum(federation.order("train"))
        assert len(lead.server.u3) == 4
        assert np.isfinite(lead.sum.values).all()
