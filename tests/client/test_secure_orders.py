"""A site's part in a secure sum: what leaves is masked, adds up exactly, and no order gets more."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.client.bench import OPEN, make_study
from tests.client.secure_bench import NAMES, SECURE, Federation, Lead, open_federation
from vestry_client.handlers import handle
from vestry_client.plain_orders import plain_reply, plain_weight
from vestry_client.secure_orders import _cut
from vestry_privacy.secagg.errors import TooFewSites
from vestry_privacy.secagg.transcript import verify_transcript
from vestry_strategies.orders import (
    EvaluateOrder,
    MaskedReply,
    Refusal,
    SecureOrder,
    StatisticsReply,
    TrainOrder,
    TrainReply,
)
from vestry_strategies.secure_plan import DIVERGED, LOSS, SumKind
from vestry_strategies.sums import add_sums

KINDS: tuple[SumKind, ...] = ("statistics", "train", "evaluate")
STEPS = ("keys", "shares", "deliver", "input", "survivors", "unmask")


def clear(federation: Federation, kind: SumKind, names: tuple[str, ...] = NAMES[:4]) -> list[TrainReply]:
    """What the sites would say in the clear."""
    order = federation.order(kind)
    return [plain_reply(federation.sites[name], federation.bench, order) for name in names]  # type: ignore[misc]


def close(federation: Federation, lead: Lead, names: tuple[str, ...] = NAMES[:4]) -> None:
    """The sum of updates is that of these sites, but for the rounding."""
    replies, plan = clear(federation, "train", names), lead.plan
    assert set(lead.server.u3) == set(names)
    assert lead.sum.weight == sum(reply.weight for reply in replies)
    exact = sum(reply.update.astype(np.float64) * reply.weight for reply in replies)
    error = len(names) * plan.ring.step * plan.weight_limit
    assert np.abs(lead.sum.values - exact).max() < error
    losses = sum(reply.weight * (reply.loss or 0.0) for reply in replies)
    assert federation.read(lead, "train")["loss"] == pytest.approx(losses, rel=1e-12)


def test_statistics_are_summed_exactly(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        lead = federation.sum(federation.order("statistics"))
        exact = add_sums(reply.sums for reply in clear(federation, "statistics"))  # type: ignore[attr-defined]
        found = federation.read(lead, "statistics")
        assert list(found) == list(exact)
        for name, array in exact.items():
            assert np.allclose(found[name], array, rtol=1e-12), name
        assert lead.sum.weight == found["examples"][0]


def test_updates_losses_and_weights_are_summed(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        close(federation, federation.sum(federation.order("train")))


def test_metrics_are_summed_exactly(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        lead = federation.sum(federation.order("evaluate"))
        exact = add_sums(reply.sums for reply in clear(federation, "evaluate"))  # type: ignore[attr-defined]
        found = federation.read(lead, "evaluate")
        assert all(np.allclose(found[name], array, rtol=1e-12) for name, array in exact.items())
        assert lead.sum.weight == 4


@pytest.mark.parametrize("weighting", ["examples", "equal"])
def test_beside_the_vector_a_reply_says_nothing_of_its_site(weighting: str, tmp_path: Path) -> None:
    change = ("secure = true", f'secure = true\nweighting = "{weighting}"')
    with open_federation(tmp_path, change) as federation:
        for kind in KINDS:
            lead = federation.sum(federation.order(kind))
            for name in federation.sites:
                reply = lead.masked(name)
                assert (reply.site, reply.plan) == (name, lead.plan.digest.hex())
                assert (reply.weight, reply.spent, reply.guarantee) == (None, (), "")
                assert reply.steps == (5 if kind == "train" else 0)
            weights = {plain_weight(site, federation.bench) for site in federation.sites.values()}
            assert weights == {1} if weighting == "equal" else len(weights) > 1


def test_passes_over_the_data_are_not_counted_in_a_reply(tmp_path: Path) -> None:
    with open_federation(tmp_path, ("local_steps = 5", "local_epochs = 2")) as federation:
        lead = federation.sum(federation.order("train"))
        assert {lead.masked(name).steps for name in federation.sites} == {0}


def test_a_masked_vector_looks_like_nothing(tmp_path: Path) -> None:
    """Two sums of the same values have no word in common, and neither has small or repeated words."""
    policy = OPEN.model_copy(update={"min_cohort": 3, "allow_repeats_without_privacy": True})
    with open_federation(tmp_path, policy=policy) as federation:
        one, two = (federation.sum(federation.order("evaluate")).masked("north").vector for _ in range(2))
        assert not (set(one.tolist()) & set(two.tolist()))
        assert abs(float((one >> np.uint64(63)).mean()) - 0.5) < 0.05
        assert len(set(one.tolist())) == len(one)


@pytest.mark.parametrize("step", STEPS)
def test_a_site_may_be_lost_at_any_step(step: str, tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        lead = federation.sum(federation.order("train"), south=step)
        late = step in {"survivors", "unmask"}
        close(federation, lead, NAMES[:4] if late else ("north", "west", "east"))


@pytest.mark.parametrize("step", STEPS)
def test_of_three_sites_none_may_be_lost(step: str, tmp_path: Path) -> None:
    with open_federation(tmp_path, sites=3) as federation, pytest.raises(TooFewSites):
        federation.sum(federation.order("train"), south=step)


@pytest.mark.parametrize("kind", KINDS)
def test_a_duplicate_gets_the_identical_bytes(kind: SumKind, tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        order, site = federation.order(kind), federation.sites["north"]
        assert site.secure is not None
        journal, asked = site.secure.journal, replace(order, secure="")
        lead = federation.begin(federation.plan(order))
        real = federation.step

        def twice(lead: Lead, name: str, step: str, message: bytes) -> object:
            first = real(lead, name, step, message)  # type: ignore[arg-type]
            head = journal.head()
            assert real(lead, name, step, message) == first  # type: ignore[arg-type]
            assert name != "north" or journal.head() == head
            return first

        federation.step = twice  # type: ignore[method-assign, assignment]
        for name in federation.until_input(lead, {}):
            reply = federation.input(lead, name, order)
            again = handle(federation.sites[name], replace(asked, secure=lead.plan.digest.hex()))
            assert isinstance(reply, MaskedReply)
            assert isinstance(again, MaskedReply)
            assert np.array_equal(again.vector, reply.vector)
            assert again.header == reply.header
        federation.unmask(lead, {})


def test_each_kind_is_refused_in_the_clear(tmp_path: Path) -> None:
    """Else leaving out a word would get an update in the clear."""
    with open_federation(tmp_path) as federation:
        for kind in KINDS:
            reply = handle(federation.sites["north"], federation.order(kind))
            assert isinstance(reply, Refusal)
            assert reply.code == "secure"
            assert "hands out no reply in the clear" in reply.message


def test_a_secure_order_for_a_study_in_the_clear_is_refused(tmp_path: Path) -> None:
    study = make_study()
    with open_federation(tmp_path, policy=OPEN, study=study) as federation:
        site = federation.sites["north"]
        orders = [federation.order(kind, secure="0" * 64) for kind in KINDS]
        for order in [*orders, SecureOrder(study.to_json(), "keys", "0" * 64, b"")]:
            reply = handle(site, order)
            assert isinstance(reply, Refusal)
            assert reply.code == "secure"
            assert "aggregation.secure = false" in reply.message
        assert isinstance(handle(site, federation.order("statistics")), StatisticsReply)


def test_a_site_without_a_seat_takes_no_part(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        lead = federation.begin(federation.plan(federation.order("train")))
        federation.sites["north"].secure = None
        federation.step(lead, "north", "keys", lead.server.signed_plan)
        said = lead.refused("north", "keys")
        assert said.code == "secure"
        assert "site 'north': this site has no identity, directory and journal" in said.message


def ready(federation: Federation, kind: SumKind = "train") -> Lead:
    """A sum whose sites are asked for input next."""
    lead = federation.begin(federation.plan(federation.order(kind)))
    assert len(federation.until_input(lead, {})) == 4
    return lead


def test_input_for_anything_but_the_plan_is_refused_before_it_is_computed(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        lead, right = ready(federation), federation.order("train")
        assert isinstance(right, TrainOrder)
        other = {name: array + 1 for name, array in right.preprocessing.items()}
        wrong = {
            "order.model": replace(right, model=right.model + np.float32(1)),
            "order.preprocessing": replace(right, preprocessing=other),
            "is for train of round 2": replace(right, round=2),
            "is for evaluate": federation.order("evaluate"),
            "is for statistics": federation.order("statistics"),
        }
        wrong["order.preprocessing: its"] = replace(right, shared={"control": np.ones(3)})
        for said, order in wrong.items():
            reply = federation.input(lead, "north", order)
            assert isinstance(reply, Refusal)
            assert said in reply.message
        strange = replace(right, model=right.model * np.float32("nan"))
        assert isinstance(federation.input(lead, "north", strange), Refusal)
        assert isinstance(federation.input(lead, "north", right), MaskedReply)


def test_training_that_diverges_adds_zeros_and_its_tensor_stays_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change = ("learning_rate = 0.1", "learning_rate = 1e30")
    with (
        open_federation(tmp_path, change, ('"logistic"', '"mlp"')) as federation,
        caplog.at_level(logging.WARNING),
    ):
        lead = federation.sum(federation.order("train"))
        sums = federation.read(lead, "train")
    assert "tensor '" in caplog.text
    assert sums[DIVERGED] == 4.0  # how many, not who: a refusal would tell
    assert sums[LOSS] == 0.0
    assert np.abs(lead.sum.values).max() < 4 * lead.plan.ring.step * lead.plan.weight_limit


@pytest.mark.parametrize("largest", [1e-3, 1e6])
def test_a_large_update_is_cut_at_the_site(largest: float, tmp_path: Path) -> None:
    more = f"secure = true\nlane_bits = 32\nvalue_range = 0.5\nmax_update_norm = {largest}"
    with open_federation(tmp_path, ("secure = true", more)) as federation:
        lead = federation.sum(federation.order("train"))
        exact = np.zeros(len(lead.sum.values))
        for reply in clear(federation, "train"):
            update = reply.update.astype(np.float64)
            exact += reply.weight * update * min(1.0, largest / float(np.linalg.norm(update)))
        error = 4 * lead.plan.ring.step * lead.plan.weight_limit
        assert np.abs(lead.sum.values - exact).max() < error * 1.1  # an update of float32 is cut to float32
        assert (np.linalg.norm(lead.sum.values) < lead.sum.weight * 1e-3) == (largest == 1e-3)


def test_a_site_keeps_what_it_saw_of_a_sum(tmp_path: Path) -> None:
    with open_federation(tmp_path) as federation:
        seat = federation.sites["north"].secure
        assert seat is not None
        seat.transcripts = tmp_path / "kept" / "transcripts"
        lead = federation.sum(federation.order("train"), south="input")
        (path,) = seat.transcripts.iterdir()
        report = verify_transcript(path.read_bytes())
        assert report.plan == lead.plan
        assert report.directory == federation.directory.fingerprint
        assert report.lost == ("south",)
        assert (report.revealed, report.sum_of_weights) == ((), None)


def test_a_disk_that_keeps_no_transcript_stops_no_sum(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with open_federation(tmp_path) as federation, caplog.at_level(logging.WARNING):
        seat = federation.sites["north"].secure
        assert seat is not None
        seat.transcripts = tmp_path / "file"
        close(federation, federation.sum(federation.order("train")))
    assert "no transcript of round 1 was kept" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_per_site_standardisation_and_five_sites(kind: SumKind, tmp_path: Path) -> None:
    change = ('kind = "tabular"', 'kind = "tabular"\nstandardise = "per-site"')
    with open_federation(tmp_path, change, sites=5) as federation:
        lead = federation.sum(federation.order(kind), east="deliver")
        assert len(lead.server.u3) == 4


def test_the_study_in_the_bench_aggregates_securely() -> None:
    assert make_study(SECURE).aggregation.secure
    assert EvaluateOrder("", 1, np.zeros(0, dtype=np.float32)).secure == ""


@pytest.mark.parametrize(
    ("value", "norm"), [(1e30, 1.0), (3e38, 1.0), (0.05, 0.5), (1e-30, 0.0), (np.inf, 0.0), (np.nan, 0.0)]
)
def test_no_update_is_too_large_to_be_cut(value: float, norm: float) -> None:
    cut = _cut(np.full(100, value, dtype=np.float32), 1.0)
    assert cut.dtype == np.float32
    assert float(np.linalg.norm(cut.astype(np.float64))) == pytest.approx(norm, abs=2e-6)
    assert float(np.linalg.norm(cut.astype(np.float64))) <= 1.0
