"""The package against tests/vectors/secagg/: every message of every run, and every refusal with its code."""

import hashlib
import json
import re
from typing import Any

import numpy as np
import pytest

from tests.privacy.secagg import reference as ref
from tests.privacy.secagg.make_vectors import FOLDER, files
from tests.privacy.secagg.real_run import RealRun
from tests.privacy.secagg.reference_faults import Fault
from tests.privacy.secagg.reference_run import perform
from tests.privacy.secagg.vector_files import read_case, refusals, runs
from vestry_privacy.secagg import errors
from vestry_privacy.secagg.deals import Complained
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.errors import BadDealing, ProtocolAbort, WrongStep
from vestry_privacy.secagg.history import Head
from vestry_privacy.secagg.messages import read_plan
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.transcript import site_transcript, verify_transcript

RUNS = runs()
HONEST = [name for name, vector in RUNS.items() if not any(site["spoils"] for site in vector["sites"])]
SPOILT = [name for name in RUNS if name not in HONEST]
REFUSALS = {fault.name: fault for fault in refusals()}
STEPS = {  # what a site reads -> the step that answers it, and how
    "roster-keys": ("shares", "deal"),
    "deliver": ("ready", "accept"),
    "survivors": ("consistent", "agree"),
    "unmask": ("revealed", "reveal"),
}


def is_message(expected: dict[str, Any], content: bytes) -> None:
    assert hashlib.sha256(content).hexdigest() == expected["sha256"]
    assert len(content) == expected["bytes"]
    assert expected.get("hex", content.hex()) == content.hex()


def are_messages(expected: dict[str, Any], contents: dict[int, bytes]) -> None:
    assert sorted(expected, key=int) == [str(at) for at in sorted(contents)]
    for at, content in contents.items():
        is_message(expected[str(at)], content)


def test_the_files_are_what_the_reference_makes() -> None:
    made = dict(files())
    assert sorted(made) == sorted(path.name for path in FOLDER.glob("*.json"))
    for name, content in made.items():
        assert (FOLDER / name).read_text(encoding="ascii") == content, name
    assert sum(map(len, made.values())) < 1_000_000


@pytest.mark.parametrize("name", HONEST)
def test_every_message_and_the_sum_of_a_run(name: str) -> None:
    vector = RUNS[name]
    run = RealRun(read_case(vector)).until("the end")
    expected = vector["messages"]
    assert run.plan.digest.hex() == vector["plan"]["plan_hash"]
    is_message(expected["directory"], run.directory.encode())
    for step in ("keys", "shares", "ready", "input", "consistent", "revealed"):
        are_messages(expected[step], run.sent[step])
    are_messages(expected["deliver"], run.delivered)
    for step in ("roster-keys", "survivors", "unmask"):
        is_message(expected[step.replace("-", "_")], run.relayed[step])
    masked = {str(at): words.astype("<u8").tobytes().hex() for at, words in run.words.items()}
    assert masked == vector["words"]["masked"]
    result, found = vector["result"], run.result
    assert found is not None
    assert (found.weight, found.sites) == (result["weight"], len(result["u3"]))
    np.testing.assert_allclose(found.values, result["values"], rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(found.wide, result["wide"])
    for names, indexes in ((run.server.u1, "u1"), (run.server.u2, "u2"), (run.server.u3, "u3")):
        assert names == tuple(run.name(at) for at in result[indexes])
    is_message(expected["transcript"], run.server.transcript())
    for at in run.sent["revealed"]:
        seen = site_transcript(run.case.signed_plan, run.directory, run.states[at])
        is_message(expected["site_transcript"], seen)
        assert verify_transcript(seen).survivors == run.server.u3
    report = verify_transcript(run.server.transcript())
    assert report.survivors == run.server.u3
    assert report.sum_of_weights == result["weight"]


@pytest.mark.parametrize("name", list(RUNS))
def test_the_server_alone_over_the_reference_sites(name: str) -> None:
    vector, case = RUNS[name], read_case(RUNS[name])
    sent, real = perform(case), RealRun(case)
    for step in ("keys", "shares", "ready", "input", "consistent", "revealed"):
        real.sent[step] = getattr(sent, step)
        for at, message in real.sent[step].items():
            words = np.array(sent.masked[at], dtype=np.uint64) if step == "input" else None
            real.collect(step, at, message, words)
        if step == "revealed" and "code" in vector["result"]:
            with pytest.raises(BadDealing) as refused:
                real.close(step)
            assert refused.value.code == vector["result"]["code"]
            assert refused.value.peer == real.name(vector["result"]["dealer"])
            return
        real.close(step)
    assert real.result is not None
    assert real.result.weight == vector["result"]["weight"]
    np.testing.assert_allclose(real.result.values, vector["result"]["values"], rtol=1e-12, atol=1e-9)


def before(fault: Fault) -> RealRun:
    """A run that stands where the fault comes in."""
    run = RealRun(read_case(RUNS[fault.run]))
    if fault.at == "site":
        run.until(STEPS[fault.step][0])
    else:
        run.until(fault.step)
        run.send(fault.step)
        for at, message in run.sent[fault.step].items():
            if at < fault.index:
                run.collect(fault.step, at, message)
    if fault.seen is not None:
        site, journal, ledger = fault.seen
        heads = {run.plan.roster[site]: (Head(*journal), Head(*ledger))}
        run.journals[fault.index].see_peers(heads)
        run.server._heads.update(heads)
    return run


@pytest.mark.parametrize("name", [name for name, fault in REFUSALS.items() if fault.step == "plan"])
def test_a_site_refuses_the_plan(name: str) -> None:
    fault, case = REFUSALS[name], read_case(RUNS[REFUSALS[name].run])
    directory = Directory.decode(fault.directory or case.directory)
    with pytest.raises(ProtocolAbort) as refused:
        Roster.of(read_plan(fault.message, directory), directory)
    assert refused.value.code == fault.code


@pytest.mark.parametrize("name", [name for name, fault in REFUSALS.items() if fault.step in STEPS])
def test_a_site_refuses_and_is_out_of_the_sum(name: str) -> None:
    fault = REFUSALS[name]
    run = before(fault)
    step = getattr(run, STEPS[fault.step][1])
    with pytest.raises(ProtocolAbort) as refused:
        step(fault.index, fault.message)
    assert refused.value.code == fault.code
    if fault.answer:
        assert isinstance(refused.value, Complained)
        assert refused.value.complaint == fault.answer
        assert refused.value.peer == run.name(1)
    good = run.delivered.get(fault.index, b"") if fault.step == "deliver" else run.relayed[fault.step]
    with pytest.raises(WrongStep):
        step(fault.index, good)


@pytest.mark.parametrize("name", [name for name, fault in REFUSALS.items() if fault.at == "server"])
def test_the_server_refuses_and_goes_on(name: str) -> None:
    fault = REFUSALS[name]
    run = before(fault)
    words = np.frombuffer(fault.words, dtype="<u8") if fault.words else None
    with pytest.raises(ProtocolAbort) as refused:
        run.collect(fault.step, fault.index, fault.message, words)
    assert refused.value.code == fault.code
    if name.startswith("complaint") or fault.seen is not None:
        return
    for at, message in run.sent[fault.step].items():
        if at >= fault.index:
            run.collect(fault.step, at, message)
    run.close(fault.step)


@pytest.mark.parametrize(
    "how", ["share", "pair_share", "big_share", "short_plaintext", "unsealed", "seal_key"]
)
def test_a_complaint_convicts_the_dealer(how: str) -> None:
    fault = REFUSALS[f"deliver_bad_{how}"]
    run = RealRun(read_case(RUNS[fault.run])).until("shares")
    run.send("shares")
    # The dealer's own message, put together from what the receiver of the bad shares saw.
    signed, ciphertext = dealt_to(fault.message, 1)
    good = run.sent["shares"][1]
    size = 4 + int.from_bytes(good[:4], "big") + 8
    assert good[size - 4 : size] == ref.u32(len(ciphertext)) or how == "short_plaintext"
    rest = good[size + int.from_bytes(good[size - 4 : size], "big") :]
    run.sent["shares"][1] = ref.field(signed) + ref.u32(3) + ref.field(ciphertext) + rest
    for at, message in run.sent["shares"].items():
        run.collect("shares", at, message)
    run.close("shares")
    assert run.delivered[0] == fault.message
    with pytest.raises(BadDealing) as convicted:
        run.collect("ready", 0, fault.answer)
    assert convicted.value.peer == (None if how == "seal_key" else run.name(1))


def dealt_to(delivery: bytes, dealer: int) -> tuple[bytes, bytes]:
    """Signed body and ciphertext of a dealer in a `deliver` message."""
    place = len(ref.header("deliver", bytes(32), ref.SERVER)) + 4
    parts = []
    while place < len(delivery):
        size = int.from_bytes(delivery[place : place + 4], "big")
        parts.append(delivery[place + 4 : place + 4 + size])
        place += 4 + size
    return parts[2 * dealer], parts[2 * dealer + 1]


def test_refusals_cover_every_step_and_every_code_that_a_message_can_cause() -> None:
    assert len(REFUSALS) >= 100
    assert {fault.step for fault in REFUSALS.values() if fault.at == "site"} == {"plan", *STEPS}
    server = {"keys", "shares", "ready", "input", "consistent", "revealed"}
    assert {fault.step for fault in REFUSALS.values() if fault.at == "server"} == server
    codes = {getattr(errors, name).code for name in errors.__all__}
    # These come from a journal, from a call out of order or from the site's own values, not from a message.
    assert {fault.code for fault in REFUSALS.values()} == codes - {
        "abort",
        "value",
        "repeated",
        "step",
        "journal",
    }


def test_input_in_pieces_is_read_twice_or_refused() -> None:
    run = RealRun(read_case(RUNS["four"])).until("input")
    run.send("input")
    words, message = run.words[1], run.sent["input"][1]
    with pytest.raises((TypeError, ProtocolAbort)):
        run.server.add_input(run.name(1), message, iter([words[:2], words[2:]]))
    run.server.add_input(run.name(1), message, [words[:2], words[2:]])
    for at in (0, 2, 3):
        run.collect("input", at, run.sent["input"][at])
    run.close("input")
    for step in ("consistent", "revealed"):
        run.send(step)
        for at, sent in run.sent[step].items():
            run.collect(step, at, sent)
        run.close(step)
    assert run.result is not None
    assert run.result.weight == RUNS["four"]["result"]["weight"]


def test_the_page_names_every_run_every_code_and_every_key() -> None:
    page = (FOLDER.parents[2] / "docs" / "secagg-vectors.md").read_text(encoding="utf-8")
    words = set(re.findall(r"[a-z0-9_-]+", page))
    assert set(RUNS) <= words
    assert {getattr(errors, name).code for name in errors.__all__} - {"abort"} <= words
    entries = [json.loads((FOLDER / "refusals.json").read_text(encoding="ascii"))["refusals"], RUNS.values()]
    assert {key for rows in entries for row in rows for key in row} <= words
    assert {key for vector in RUNS.values() for site in vector["sites"] for key in site} <= words | {
        "organisation"
    }
