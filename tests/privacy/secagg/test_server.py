"""The server: drop-outs at every step, messages that are left out, and what ends a sum."""

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.privacy.secagg.federation import SEED, Federation
from vestry_privacy.secagg import client
from vestry_privacy.secagg.errors import (
    BadKey,
    BadMessage,
    BadShare,
    BadSignature,
    Inconsistent,
    ProtocolAbort,
    Repeated,
    RolledBack,
    TooFewSites,
    WrongStep,
)
from vestry_privacy.secagg.history import NO_HEAD, Head
from vestry_privacy.secagg.messages import Advertisement, Revealed, relay
from vestry_privacy.secagg.plan import tolerated_dropouts
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.server import Heads, SumServer

STEPS = ("advertise", "deal", "accept", "mask", "agree", "reveal")


def run(fed: Federation, lost: dict[str, list[str]]) -> None:
    for step in STEPS:
        method: Callable[[list[str]], None] = getattr(fed, step)
        method(lost.get(step, []))


def whole_sum(fed: Federation, lost: dict[str, list[str]]) -> None:
    run(fed, lost)
    fed.server.result()


def check_sum(fed: Federation, survivors: list[str]) -> None:
    found = fed.server.result()
    assert sorted(fed.server.u3) == sorted(survivors)
    exact = sum(fed.inputs[name][1] * fed.inputs[name][0].astype(float) for name in survivors)
    bound = len(survivors) * fed.plan.ring.step * fed.plan.weight_limit
    np.testing.assert_allclose(found.values, exact, atol=bound)
    assert found.weight == sum(fed.inputs[name][1] for name in survivors)
    np.testing.assert_allclose(found.wide, sum(fed.inputs[name][2] for name in survivors), rtol=1e-12)


@pytest.mark.parametrize("sites", [4, 5, 10, 20])
@pytest.mark.parametrize("step", STEPS)
def test_dropouts_at_a_step_are_recovered(sites: int, step: str) -> None:
    fed = Federation(sites)
    lost = list(fed.names[: tolerated_dropouts(sites)])
    run(fed, {step: lost})
    before_input = STEPS.index(step) <= STEPS.index("mask")
    check_sum(fed, [name for name in fed.names if not (before_input and name in lost)])


def test_dropouts_at_three_steps() -> None:
    fed = Federation(10)
    names = fed.names
    run(fed, {"deal": [names[0]], "mask": [names[5]], "agree": [names[9]]})
    check_sum(fed, [name for name in names if name not in {names[0], names[5]}])


@pytest.mark.parametrize("sites", [3, 4, 5, 10])
@pytest.mark.parametrize("step", STEPS)
def test_one_dropout_too_many_ends_the_sum(sites: int, step: str) -> None:
    fed = Federation(sites)
    lost = list(fed.names[: tolerated_dropouts(sites) + 1])
    with pytest.raises(TooFewSites, match="nothing is unmasked"):
        whole_sum(fed, {step: lost})


def test_least_organisations_can_ask_for_more_than_the_threshold() -> None:
    fed = Federation(5, {"least": 5})
    with pytest.raises(TooFewSites, match="5 organisations"):
        run(fed, {"mask": [fed.names[0]]})


def test_memory_is_one_vector() -> None:
    fed = Federation(5, {"values": 50_000}).until("agree")
    held = [value for value in vars(fed.server).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in held) == fed.plan.shape.words * 8


def test_frames_are_added_only_after_their_digest() -> None:
    fed = Federation(4, {"values": 1000}).until("mask")
    name, other = fed.names[:2]
    sent = {}
    for one in (name, other):
        state, header, words = client.mask(fed.states[one], *fed.inputs[one], Secret(SEED), fed.journals[one])
        fed.states[one], sent[one] = state, (header, words)
    header, words = sent[name]
    short, changed = words[:-1], words.copy()
    changed[3] += 1
    for bad in (short, changed, words[:0], np.concatenate([words, words[:1]])):
        with pytest.raises(Inconsistent, match="not those that it signed"):
            fed.server.add_input(name, header, bad)
    with pytest.raises(Inconsistent, match="another site"):
        fed.server.add_input(other, header, words)
    assert not fed.server.u3
    with pytest.raises(TypeError, match="read twice"):
        fed.server.add_input(name, header, iter([words]))
    fed.server.add_input(name, header, [words[:100], words[100:]])
    with pytest.raises(Repeated):
        fed.server.add_input(name, header, words)
    assert fed.server.u3 == (name,)


def test_steps_have_an_order() -> None:
    fed = Federation(4)
    with pytest.raises(WrongStep):
        fed.server.survivors()
    with pytest.raises(WrongStep):
        fed.server.deliver_to(fed.names[0])
    fed.until("deal")
    with pytest.raises(WrongStep):
        fed.server.collect_keys(fed.names[0], b"")


def test_messages_of_others_and_second_ones_are_left_out() -> None:
    fed = Federation(4)
    states = {}
    for name in fed.names:
        states[name] = client.advertise(
            fed.roster, fed.identities[name], name, (NO_HEAD, NO_HEAD), os.urandom
        )
    one, other = fed.names[:2]
    with pytest.raises(Inconsistent, match="another site"):
        fed.server.collect_keys(one, states[other][1])
    fed.server.collect_keys(one, states[one][1])
    with pytest.raises(Repeated):
        fed.server.collect_keys(one, states[one][1])
    with pytest.raises(BadMessage):
        fed.server.collect_keys(other, b"nonsense")
    tampered = bytearray(states[other][1])
    tampered[-1] ^= 1
    with pytest.raises(BadSignature):
        fed.server.collect_keys(other, bytes(tampered))
    read = Advertisement.read(fed.roster, states[one][1])
    index = fed.roster.index(other)
    copied = Advertisement.body(
        fed.plan.digest, index, (read.seal_public, read.mask_public), (NO_HEAD, NO_HEAD)
    )
    with pytest.raises(BadKey, match="another site's"):
        fed.server.collect_keys(other, fed.roster.sign(fed.identities[other], copied))


def test_server_leaves_out_a_site_whose_books_are_older() -> None:
    fed = Federation(4)
    name = fed.names[0]
    heads: Heads = {fed.plan.roster[0]: (Head(0, 9, b"h" * 32), NO_HEAD)}
    server = SumServer(fed.plan, fed.directory, fed.signed_plan, heads)
    _, older = client.advertise(
        fed.roster, fed.identities[name], name, (Head(0, 8, b"g" * 32), NO_HEAD), os.urandom
    )
    with pytest.raises(RolledBack, match=name):
        server.collect_keys(name, older)
    _, newer = client.advertise(
        fed.roster, fed.identities[name], name, (Head(0, 10, b"i" * 32), NO_HEAD), os.urandom
    )
    server.collect_keys(name, newer)
    assert heads[fed.plan.roster[0]][0].count == 10


def test_wrong_shares_at_the_end_convict_their_holder() -> None:
    fed = Federation(5).until("reveal")
    name = fed.names[0]
    state, sent = client.reveal(fed.states[name], fed.signatures, fed.journals[name])
    fed.states[name] = state
    read = Revealed.read(fed.roster, sent, 5)
    shares = list(read.shares)
    shares[1] = shares[2]
    body = Revealed.body(fed.plan.digest, 0, shares)
    with pytest.raises(BadShare, match=f"site '{name}'"):
        fed.server.collect_revealed(name, fed.roster.sign(fed.identities[name], body))
    for other in fed.names[1:]:
        fed.states[other], sent = client.reveal(fed.states[other], fed.signatures, fed.journals[other])
        fed.server.collect_revealed(other, sent)
    check_sum(fed, list(fed.names))


def test_a_signature_over_other_survivors_is_left_out() -> None:
    fed = Federation(4).until("agree")
    name = fed.names[0]
    headers = [fed.states[one].sent for one in fed.names[:3]]
    _, sent = client.agree(fed.states[name], relay("survivors", fed.plan.digest, headers), fed.journals[name])
    with pytest.raises(Inconsistent, match="other survivors"):
        fed.server.collect_consistent(name, sent)


def test_whole_sums_over_hostile_bytes_never_crash() -> None:
    fed = Federation(4).until("agree")
    for content in (b"", b"\x00" * 100, fed.states[fed.names[0]].sent, os.urandom(300)):
        with pytest.raises(ProtocolAbort):
            fed.server.collect_consistent(fed.names[0], content)


def test_two_sums_with_equal_inputs_do_not_look_alike() -> None:
    words = []
    for _ in range(2):
        fed = Federation(4, {"values": 30_000}).until("mask")
        name = fed.names[0]
        words.append(client.mask(fed.states[name], *fed.inputs[name], Secret(SEED), fed.journals[name])[2])
    assert (words[0] == words[1]).mean() < 1e-3
    bits = np.unpackbits((words[0] ^ words[1]).view(np.uint8)).mean()
    assert abs(bits - 0.5) < 0.005


def test_plan_of_strangers_is_refused() -> None:
    fed = Federation(4)
    roster = tuple(sorted((*fed.plan.roster[:3], bytes([1]) * 32)))
    with pytest.raises(ProtocolAbort, match="unknown in version"):
        SumServer(replace(fed.plan, roster=roster), fed.directory, fed.signed_plan)
    with pytest.raises(ProtocolAbort, match="directory version"):
        SumServer(replace(fed.plan, directory=2), fed.directory, fed.signed_plan)
