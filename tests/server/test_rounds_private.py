"""Rounds under [privacy]: no losses, noised sums fitted, epsilon in the record, one order to finish."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.server.scripted import SIZE, Course, Script, metric_sums, update
from tests.strategies.samples import DECLARED, FULL_BATCH, PRIVATE
from vestry_privacy.accounting import epsilon
from vestry_privacy.events import PoissonGaussian
from vestry_server.progress import RoundRecord, StatisticsDone
from vestry_server.rounds import Diverged, NotEnoughSites
from vestry_strategies.orders import (
    EvaluateOrder,
    EvaluateReply,
    FinishOrder,
    FinishReply,
    Order,
    Refusal,
    Reply,
    StatisticsOrder,
    StatisticsReply,
    TrainOrder,
)
from vestry_strategies.sums import Sums

METRICS = ("delta", 'metrics = ["accuracy", "auc"]\ndelta')
SECOND = "[privacy.site]\nepsilon = 2.0\ndelta = 1e-2\nclip = 0.5\n"
AT_SERVER = ("[evaluation]", f'{SECOND}noise_at = "server"\n[evaluation]')


def noised_sums() -> Sums:
    """Of about ten persons; the columns are age, age:missing, dose and three colours."""
    return {
        "persons": np.array([10.5]),
        "count": np.array([9.5]),
        "sum": np.array([1.9, -2.1, 5.0, 3.0, 12.5]),
        "squares": np.array([4.0, 2.0]),
    }


def spent(number: int) -> tuple[str, ...]:
    step = PoissonGaussian(noise_multiplier=8.0, sampling_probability=1.0, count=5)
    return (step.model_dump_json(),) * number


def private(site: str, order: Order) -> Reply | None:
    """A site under [privacy] that does what it is told."""
    if isinstance(order, StatisticsOrder):
        return StatisticsReply(site, noised_sums(), "cryptographic")
    if isinstance(order, TrainOrder):
        return replace(update(site, order.round), loss=None, weight=40.0, spent=spent(order.round))
    if isinstance(order, EvaluateOrder):
        sums = metric_sums()
        del sums["loss"], sums["squared_error"], sums["examples"]
        return EvaluateReply(site, order.round, sums)
    return FinishReply(site) if isinstance(order, FinishOrder) else None


def course(*changes: tuple[str, str], script: Script = private) -> Course:
    return Course(*PRIVATE, FULL_BATCH, *changes, script=script)


def orders(made: Course, kind: type[Order]) -> list[tuple[str, Order]]:
    return [(site, order) for site, order in made.exchange.asked if isinstance(order, kind)]


def test_noised_statistics_are_fitted_not_the_exact_ones() -> None:
    made = course()
    made.go()
    fitted = made.kept[0].preprocessing
    persons, there = 31.5, 28.5
    assert fitted["mean"][0] == pytest.approx(60 + 60 * 5.7 / there)
    assert fitted["mean"][1] == pytest.approx(1 - there / persons)
    assert fitted["mean"][2] == pytest.approx(6 * -6.3 / persons)
    assert fitted["mean"][5] == 1.0  # more of a colour than persons: the noise, cut at the range
    (done,) = [event for event in made.events if isinstance(event, StatisticsDone)]
    assert done.examples == 0  # nobody counted


def test_where_nothing_leaves_in_round_zero_the_studys_constants_are_taken() -> None:
    def script(site: str, order: Order) -> Reply | None:
        return StatisticsReply(site, {}) if isinstance(order, StatisticsOrder) else private(site, order)

    made = course(DECLARED, script=script)
    made.go()
    assert made.kept[0].preprocessing["mean"].tolist() == [60.0, 0, 0, 0, 0, 0]
    assert made.kept[0].preprocessing["scale"].tolist() == [30.0, 1, 3, 1, 1, 1]


def test_losses_stay_at_the_sites_and_the_rounds_go_on() -> None:
    made = course()
    state = made.go()
    assert state.round == 4
    assert [record.loss for record in made.records] == [None] * 4
    assert [record.loss for record in state.history] == [None] * 4


def test_without_metrics_nobody_is_asked_to_evaluate() -> None:
    made = course()
    state = made.go()
    assert orders(made, EvaluateOrder) == []
    assert {(len(record.metrics), len(record.per_site)) for record in made.records} == {(0, 0)}
    assert state.best_round == 0
    assert all(record.left_out == {} for record in made.records)


def test_released_metrics_are_of_the_noised_sums() -> None:
    made = course(METRICS)
    made.go()
    record = made.records[-1]
    assert record.metrics["accuracy"] == pytest.approx(0.8)
    assert record.metrics["auc"] == 1.0
    assert record.metrics["loss"] is None
    assert len(orders(made, EvaluateOrder)) == 4 * 3


@pytest.mark.parametrize("every", [1, 3])
def test_the_best_round_is_chosen_by_released_metrics(every: int) -> None:
    right = {1: 6.0, 2: 10.0, 3: 8.0, 4: 7.0}

    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, EvaluateOrder):
            return EvaluateReply(
                site, order.round, {"confusion": metric_sums(right[order.round])["confusion"]}
            )
        return private(site, order)

    made = course(
        ("delta", 'metrics = ["accuracy"]\ndelta'),
        ('metrics = ["accuracy", "auc"]', f'every = {every}\nkeep = "best"\nprimary = "accuracy"'),
        script=script,
    )
    state = made.go()
    assert state.best_round == (2 if every == 1 else 3)


def test_epsilon_rises_with_the_rounds_and_is_in_the_record() -> None:
    made = course()
    state = made.go()
    rising = [record.epsilon for record in made.records]
    steps = [
        PoissonGaussian(noise_multiplier=8.0, sampling_probability=1.0, count=5 * n) for n in (1, 2, 3, 4)
    ]
    assert rising == pytest.approx([epsilon([step], 1e-3) for step in steps])
    assert [record.epsilon for record in state.history] == rising
    assert [RoundRecord.from_plain(record.plain()).epsilon for record in made.records] == rising


def test_epsilon_never_falls_when_the_cohort_changes() -> None:
    asked = {"a": 0, "b": 0, "c": 0}

    def script(site: str, order: Order) -> Reply | None:
        reply = private(site, order)
        if isinstance(order, TrainOrder):
            asked[site] += 1
            return replace(update(site, order.round), loss=None, spent=spent(asked[site]))
        return reply

    change = ("secure = false", "secure = false\ncohort = 2")
    made = course(change, ("rounds = 4", "rounds = 12"), script=script)
    made.go()
    shown = [record.epsilon or 0.0 for record in made.records]
    assert len({record.sites for record in made.records}) > 1
    assert shown == sorted(shown)
    most = PoissonGaussian(noise_multiplier=8.0, sampling_probability=1.0, count=5 * max(asked.values()))
    assert shown[-1] == pytest.approx(epsilon([most], 1e-3))


def test_without_privacy_there_is_no_epsilon() -> None:
    made = Course()
    made.go()
    assert {record.epsilon for record in made.records} == {None}


# The order to finish.


def finished(made: Course) -> list[str]:
    return [site for site, _ in orders(made, FinishOrder)]


def test_a_private_study_is_finished_once_after_its_last_round() -> None:
    made = course()
    made.go()
    assert finished(made) == ["a", "b", "c"]
    assert [type(order) for _, order in made.exchange.asked[-3:]] == [FinishOrder] * 3
    (order,) = {order for _, order in orders(made, FinishOrder)}
    assert order == FinishOrder(made.study.to_json())


def test_a_study_without_privacy_is_never_finished() -> None:
    made = Course()
    made.go()
    assert finished(made) == []


def test_an_early_end_is_an_end() -> None:
    made = course(METRICS, ("[privacy]", '[early_stopping]\nmetric = "accuracy"\npatience = 1\n[privacy]'))
    state = made.go()
    assert state.stopped
    assert state.round == 2
    assert finished(made) == ["a", "b", "c"]


def test_only_sites_that_take_part_are_told_to_finish() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if site == "b" and isinstance(order, StatisticsOrder):
            return Refusal("b", "ledger", "refused by the site's privacy ledger (BudgetExceeded)")
        return private(site, order)

    made = course(script=script)
    state = made.go()
    assert state.sites == ("a", "c")
    assert finished(made) == ["a", "c"]
    (done,) = [event for event in made.events if isinstance(event, StatisticsDone)]
    assert done.left_out == {"b": "ledger: refused by the site's privacy ledger (BudgetExceeded)"}


def silent(site: str, order: Order) -> Reply | None:
    return None if isinstance(order, FinishOrder) else private(site, order)


def refusing(site: str, order: Order) -> Reply | None:
    refusal = Refusal(site, "ledger", "locked")
    return refusal if isinstance(order, FinishOrder) else private(site, order)


@pytest.mark.parametrize("script", [silent, refusing])
def test_a_site_that_does_not_finish_spoils_nothing(script: Script) -> None:
    assert course(script=script).go().round == 4


def fails_in_round_two(site: str, order: Order) -> Reply | None:
    if isinstance(order, TrainOrder) and order.round == 2:
        return Refusal(site, "ledger", "refused by the site's privacy ledger (BudgetExceeded)")
    return private(site, order)


def test_a_study_that_fails_is_not_finished_since_it_may_be_resumed() -> None:
    made = course(script=fails_in_round_two)
    with pytest.raises(NotEnoughSites, match="BudgetExceeded"):
        made.go()
    assert finished(made) == []
    again = course()
    assert again.go(made.kept[-1]).round == 4
    assert finished(again) == ["a", "b", "c"]


def test_a_resumed_run_shows_what_was_spent_before() -> None:
    made = course()
    made.go()
    for kept in made.kept:
        again = course()
        assert again.go(kept).history == made.kept[-1].history


# Noise at the server.


def small(value: float) -> Callable[[str, Order], Reply | None]:
    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, StatisticsOrder):
            return StatisticsReply(site, {})
        if isinstance(order, TrainOrder):
            return replace(update(site, order.round, value), loss=None, weight=1.0)
        return private(site, order)

    return script


def test_the_servers_noise_is_in_the_model() -> None:
    models = []
    for _ in range(2):
        made = course(DECLARED, AT_SERVER, ("rounds = 4", "rounds = 1"), script=small(0.01))
        models.append(made.go().model - made.first)
    assert (models[0] != models[1]).all()
    assert not np.allclose(models[0], 0.01, atol=1e-3)
    noiseless = course(DECLARED, ("rounds = 4", "rounds = 1"), script=small(0.01))
    np.testing.assert_allclose(noiseless.go().model - noiseless.first, 0.01, rtol=1e-4)


def test_an_update_that_is_not_clipped_is_left_out_by_name() -> None:
    def script(site: str, order: Order) -> Reply | None:
        return small(50.0 if site == "c" else 0.01)(site, order)

    made = course(DECLARED, AT_SERVER, ("rounds = 4", "rounds = 1"), script=script)
    made.go()
    norm = 50 * SIZE**0.5
    assert made.records[0].left_out == {"c": f"its update has norm {norm:.3g}, above privacy.site.clip = 0.5"}
    with pytest.raises(Diverged, match=r"above privacy\.site\.clip"):
        course(DECLARED, AT_SERVER, script=small(50.0)).go()
