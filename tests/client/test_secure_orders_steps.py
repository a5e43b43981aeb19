"""The steps of a secure sum at a site: in order, once, over where a rule is broken or the site restarts."""

from dataclasses import replace
from pathlib import Path

import pytest

import vestry_privacy.secagg.deals as deals_module
from tests.client.secure_bench import Federation, Lead, open_federation
from vestry_client.handlers import handle
from vestry_privacy.secagg.errors import BadDealing
from vestry_privacy.secagg.journal import Journal
from vestry_privacy.secagg.keys import seal
from vestry_privacy.secagg.secret import Secret
from vestry_strategies.orders import FinishOrder, MaskedReply, Refusal, SecureReply, TrainOrder
from vestry_strategies.secure_plan import SumKind


def ready(federation: Federation, kind: SumKind = "train") -> Lead:
    """A sum whose sites are asked for input next."""
    lead = federation.begin(federation.plan(federation.order(kind)))
    assert len(federation.until_input(lead, {})) == 4
    return lead


def test_a_second_input_is_refused(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        lead, order = ready(federation), federation.order("train")
        assert isinstance(federation.input(lead, "north", order), MaskedReply)
        assert isinstance(order, TrainOrder)
        reply = handle(federation.sites["north"], replace(order, finished=7, secure=lead.plan.digest.hex()))
        assert isinstance(reply, MaskedReply)  # the same order: what the site may forget decides no answer
        for name in ("south", "west", "east"):
            federation.input(lead, name, order)
        survivors = lead.server.survivors()
        assert isinstance(federation.step(lead, "north", "survivors", survivors), SecureReply)
        said = handle(federation.sites["north"], replace(order, secure=lead.plan.digest.hex()))
        assert isinstance(said, Refusal)
        assert "this site is at 'agreed'" in said.message


def test_steps_out_of_order_are_refused_and_the_sum_stands(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        lead, order = ready(federation), federation.order("train")
        for step in ("keys", "shares", "deliver", "survivors", "unmask", "nonsense"):
            reply = federation.step(lead, "north", step, b"another message")  # type: ignore[arg-type]
            assert isinstance(reply, Refusal), step
            assert reply.code == "secure"
        for name in federation.sites:
            assert isinstance(federation.input(lead, name, order), MaskedReply)
        assert federation.unmask(lead, {}).sites == 4


def test_a_broken_rule_ends_the_sum_here(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        lead, order = ready(federation), federation.order("train")
        for name in federation.sites:
            federation.input(lead, name, order)
        survivors = lead.server.survivors()
        assert isinstance(federation.step(lead, "north", "survivors", survivors[:-1]), Refusal)
        said = federation.step(lead, "north", "survivors", survivors)
        assert isinstance(said, Refusal)
        assert "nothing more of it leaves" in said.message


def test_a_site_that_restarts_has_lost_the_sum_and_takes_part_in_the_next(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        lead, order = ready(federation), federation.order("train")
        for name in federation.sites:
            federation.input(lead, name, order)
        federation.restart("north")
        survivors = lead.server.survivors()
        federation.step(lead, "north", "survivors", survivors)
        said = lead.refused("north", "survivors").message
        assert "no longer has the secrets of that round" in said
        federation.step(lead, "north", "keys", lead.server.signed_plan)
        assert "this site has seen it before" in lead.refused("north", "keys").message
        for name in ("south", "west", "east"):
            reply = federation.step(lead, name, "survivors", survivors)
            assert isinstance(reply, SecureReply)
            lead.server.collect_consistent(name, reply.message)
        following = federation.sum(federation.order("train", 2))
        assert set(following.server.u3) == set(federation.sites)


def test_a_newer_plan_forgets_the_older(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        older = ready(federation)
        federation.step(older, "north", "keys", older.server.signed_plan)
        newer = federation.begin(federation.plan(federation.order("train")))
        assert isinstance(federation.step(newer, "north", "keys", newer.server.signed_plan), SecureReply)
        reply = federation.input(older, "north", federation.order("train"))
        assert isinstance(reply, Refusal)
        assert "no longer has the secrets" in reply.message


def test_the_end_of_a_study_forgets_its_sum(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        lead = ready(federation)
        handle(federation.sites["north"], FinishOrder(federation.study.to_json()))
        assert isinstance(federation.input(lead, "north", federation.order("train")), Refusal)


def test_bad_shares_are_complained_about_and_end_the_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(key: Secret, plan_hash: bytes, dealer: int, holder: int, shares: bytes) -> bytes:
        return seal(key, plan_hash, dealer, holder, bytes(len(shares)))

    with open_federation(tmp_path) as federation:
        lead = federation.begin(federation.plan(federation.order("train")))
        keys_of_all(federation, lead)
        relayed = lead.server.roster_keys()
        for name in federation.sites:
            with monkeypatch.context() as patch:
                if name == "south":
                    patch.setattr(deals_module, "seal", spoilt)
                reply = federation.step(lead, name, "shares", relayed)
            assert isinstance(reply, SecureReply)
            lead.server.collect_shares(name, reply.message)
        delivered = lead.server.deliver_to("north")
        reply = federation.step(lead, "north", "deliver", delivered)
        assert isinstance(reply, SecureReply)
        with pytest.raises(BadDealing) as convicted:
            lead.server.collect_ready("north", reply.message)
        assert convicted.value.peer == "south"
        assert federation.step(lead, "north", "deliver", delivered) == reply
        said = federation.input(lead, "north", federation.order("train"))
        assert isinstance(said, Refusal)
        assert "nothing more of it leaves" in said.message


def keys_of_all(federation: Federation, lead: Lead) -> None:
    for name in federation.sites:
        reply = federation.step(lead, name, "keys", lead.server.signed_plan)
        assert isinstance(reply, SecureReply)
        lead.server.collect_keys(name, reply.message)


def test_a_site_that_was_set_back_is_refused_by_the_others_by_name(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        federation.sum(federation.order("train"))
        seat = federation.sites["north"].secure
        assert seat is not None
        seat.journal.close()
        for path in tmp_path.glob("north.sqlite*"):
            path.unlink()
        with Journal.create(tmp_path / "north.sqlite") as journal:  # and nobody has said that one was lost
            seat.journal = journal
            lead = federation.begin(federation.plan(federation.order("train", 2)))
            keys_of_all(federation, lead)
            relayed = lead.server.roster_keys()
            federation.step(lead, "south", "shares", relayed)
        said = lead.refused("south", "shares").message
        assert "highest head, site 'north'" in said
