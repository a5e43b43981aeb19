"""What lets a private study in, what is charged for a release, and what its noise is."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.client.clinic import (
    Clinic,
    answered,
    guaranteed_study,
    make_clinic,
    make_policy,
    make_rules,
    private_study,
    refused,
    site_rules,
    site_study,
)
from vestry_client.policy import PolicyRefusal
from vestry_client.privacy_rules import BudgetRules
from vestry_client.private import PrivateStudy, Release, bound_update, order_hash, pay, release_sums
from vestry_privacy.ledger_errors import DuplicateRound, LedgerError, PopulationError, RoundOpen
from vestry_privacy.plan import PlanError
from vestry_strategies.bounded import BoundedPart, stack_parts
from vestry_strategies.orders import EvaluateOrder, StatisticsOrder, StatisticsReply, TrainOrder
from vestry_strategies.private_plan import study_plan

SIMULATED = ("noise_multiplier = 3.0", 'noise_multiplier = 3.0\nnoise = "simulation"')
LAX = make_policy(make_rules(secure_noise=False))


def let_in(clinic: Clinic) -> PrivateStudy:
    return clinic.site.private(clinic.bench)


def of_round(number: int, order: str = "a" * 64) -> Release:
    event = study_plan(private_study(), 50).release_event("statistics")
    return Release("statistics", "train", number, event, order)


def test_the_whole_study_is_held_before_a_row_is_read(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        private = let_in(clinic)
        assert clinic.loads == []
        (hold,) = [entry for entry in clinic.ledger.entries() if entry.kind == "hold"]
        assert hold.study.study_hash == clinic.study.digest()
        assert sum(event.count for event in hold.train) == 4 * 2 + 1
        assert sum(event.count for event in hold.holdout) == 4
        assert (hold.epsilon_cap, hold.delta, hold.guarantee) == (20.0, 1e-5, "dp")
        assert {"noise": "cryptographic", "sampling": "poisson", "clip": 1.0}.items() <= hold.details.items()
        assert hold.train == private.plan.events("train")


def test_nobody_can_read_the_key_of_the_split_in_the_ledger(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        let_in(clinic)
        secret = clinic.site.secret
        for path in tmp_path.glob("ledger*"):
            if path.is_file():
                assert secret not in path.read_bytes()
                assert secret.hex().encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"persons": 60}, "persons"),
        ({"budget": BudgetRules(epsilon=30.0, delta=1e-5)}, "budget.epsilon"),
        ({"budget": BudgetRules(epsilon=20.0, delta=1e-4)}, "budget.delta"),
        ({"unit": "record", "unit_column": None}, "unit"),
        ({"unit_column": "case"}, "unit_column"),
        ({"exact_sums": True}, "guarantee"),
    ],
)
def test_a_policy_that_the_ledger_does_not_know_lets_nothing_in(
    change: dict[str, Any], field: str, tmp_path: Path
) -> None:
    """Else what is recorded, and reported, would be another promise than the one that is kept."""
    with make_clinic(tmp_path):
        pass
    study = private_study()
    if "unit" in change:
        study = private_study(('unit = "patient"\nunit_column = "patient"', 'unit = "record"'))
    if change.get("unit_column"):
        study = private_study(('unit_column = "patient"', 'unit_column = "case"'))
    policy = make_policy(make_rules(**change))
    with make_clinic(tmp_path, study=study, policy=policy, register=False) as clinic:
        with pytest.raises(PopulationError, match=f"{field}.*its steward must amend it"):
            let_in(clinic)
        assert "hold" not in clinic.kinds()
        assert refused(clinic.ask(clinic.statistics()), "ledger").endswith("(PopulationError)")
        assert clinic.loads == []


def test_a_smaller_budget_needs_nobody(tmp_path: Path) -> None:
    with make_clinic(tmp_path):
        pass
    policy = make_policy(make_rules(budget=BudgetRules(epsilon=19.0, delta=1e-5)))
    with make_clinic(tmp_path, policy=policy, register=False) as clinic:
        let_in(clinic)
        population = clinic.ledger.population("ward")
        assert population is not None
        assert population.budget.epsilon == 19.0


def test_an_unregistered_population_lets_nothing_in(tmp_path: Path) -> None:
    with make_clinic(tmp_path, register=False) as clinic:
        with pytest.raises(PopulationError, match="not registered"):
            let_in(clinic)
        assert clinic.kinds() == []


@pytest.mark.parametrize("delta", ["0.4", "0.02", "1e-3", "1e-6"])
@pytest.mark.parametrize("adjacency", ["zero-out", "add-remove"])
@pytest.mark.parametrize("sampling", ["poisson", "truncated_poisson"])
def test_a_number_of_persons_that_is_not_public_is_in_no_message(
    delta: str, adjacency: str, sampling: str, tmp_path: Path
) -> None:
    rules = make_rules(adjacency="add-remove", persons=4711, publish_persons=False)
    if (adjacency, sampling) == ("add-remove", "truncated_poisson"):
        return  # no study file may say that
    changes = [
        ("delta = 1e-5", f'delta = {delta}\nadjacency = "{adjacency}"\nsampling = "{sampling}"'),
        ("max_records = 4", "max_records = 4\nexpected_batch = 10.0"),
    ]
    with make_clinic(tmp_path, *changes, policy=make_policy(rules, tell_coordinator="full")) as clinic:
        with suppress(PolicyRefusal, PlanError, LedgerError):
            let_in(clinic)
        reply = clinic.ask(clinic.train())
        assert "4711" not in repr(reply)


def test_another_split_in_the_middle_of_a_study_is_refused(tmp_path: Path) -> None:
    """With another key a person would be trained on and held out, and only the larger cost be claimed."""
    with make_clinic(tmp_path) as clinic:
        let_in(clinic)
    with make_clinic(tmp_path, secret=b"another") as clinic:
        with pytest.raises(PolicyRefusal, match="the secret that this study began with"):
            let_in(clinic)
        refused(clinic.ask(clinic.train()), "policy")
        assert clinic.loads == []
    with make_clinic(tmp_path) as clinic:
        let_in(clinic)


@pytest.mark.parametrize(
    ("changes", "rules", "weight"),
    [
        ((), {}, 50.0),
        ((("secure = false", 'secure = false\nweighting = "equal"'),), {}, 1.0),
        (
            (
                ("delta = 1e-5", 'delta = 1e-5\nadjacency = "add-remove"'),
                ("max_records = 4", "max_records = 4\nexpected_batch = 10.0"),
            ),
            {"adjacency": "add-remove", "publish_persons": False, "persons": 70},
            1.0,
        ),
    ],
)
def test_the_weight_is_a_public_constant(
    changes: tuple[tuple[str, str], ...], rules: dict[str, Any], weight: float, tmp_path: Path
) -> None:
    with make_clinic(tmp_path, *changes, policy=make_policy(make_rules(**rules))) as clinic:
        assert let_in(clinic).weight == weight


def test_an_orders_hash_covers_whatever_decides_the_answer(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        order = clinic.train(1)
        model = order.model.copy()
        model[0] = np.nextafter(model[0], np.float32(1))
        mean = {**order.preprocessing, "mean": order.preprocessing["mean"] + 1e-12}
        wider = {**order.preprocessing, "mean": order.preprocessing["mean"][None]}
        renamed = {("Mean" if name == "mean" else name): a for name, a in order.preprocessing.items()}
        others: list[StatisticsOrder | TrainOrder | EvaluateOrder] = [
            replace(order, round=2),
            replace(order, model=model),
            *(replace(order, preprocessing=arrays) for arrays in (mean, wider, renamed, {})),
            replace(order, shared={"c": np.zeros(1)}),
            clinic.evaluate(1),
            clinic.statistics(),
        ]
        hashes = [order_hash(clinic.study.digest(), one) for one in (order, *others)]
        hashes += [order_hash(private_study(("seed = 5", "seed = 6")).digest(), order)]
        assert len(set(hashes)) == len(others) + 2
        assert order_hash(clinic.study.digest(), clinic.train(1, finished=9)) == hashes[0]


class Broken(Exception):
    pass


def test_a_release_that_fails_is_spent_and_never_tried_again(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        private = let_in(clinic)

        def fail() -> StatisticsReply:
            raise Broken

        with pytest.raises(Broken):
            pay(private, StatisticsReply, of_round(0), fail)
        assert clinic.kinds() == ["hold", "reserve", "commit"]
        assert clinic.charged() == 1
        with pytest.raises(DuplicateRound):
            pay(private, StatisticsReply, of_round(0), fail)
        assert clinic.charged() == 1


def test_a_process_that_is_interrupted_leaves_its_release_spent(tmp_path: Path) -> None:
    def interrupt() -> StatisticsReply:
        raise KeyboardInterrupt

    with make_clinic(tmp_path) as clinic:
        private = let_in(clinic)
        with pytest.raises(KeyboardInterrupt):
            pay(private, StatisticsReply, of_round(0), interrupt)
        assert clinic.charged() == 1
        with pytest.raises(RoundOpen):
            pay(private, StatisticsReply, of_round(0), interrupt)
    with make_clinic(tmp_path) as clinic:
        assert clinic.kinds() == ["hold", "reserve", "spent-by-crash"]
        assert clinic.charged() == 1


def test_a_reply_that_the_ledger_knows_nothing_of_is_not_sent(tmp_path: Path) -> None:
    """Kept replies of another ledger, such as one from a backup, were not paid for here."""
    with make_clinic(tmp_path / "one") as clinic:
        answered(clinic.ask(clinic.statistics()))
        path = next((tmp_path / "one").glob("*/replies/StatisticsReply.reply"))
        place = path.relative_to(tmp_path / "one")
    (tmp_path / "two" / place).parent.mkdir(parents=True)
    (tmp_path / "two" / place).write_bytes(path.read_bytes())
    with make_clinic(tmp_path / "two") as clinic:
        answered(clinic.ask(clinic.statistics()))
        assert clinic.charged() == 1
        (tmp_path / "two" / place).write_bytes(path.read_bytes())
        assert "not the one that was paid for" in refused(clinic.ask(clinic.statistics()), "ledger")


def bounded(rows: int = 6) -> Any:
    return stack_parts(
        {"x": BoundedPart(np.full((rows, 2000), 0.01), 1.0), "n": BoundedPart(np.ones((rows, 1)), 1.0)}
    )


@pytest.mark.parametrize("name", ["statistics", "evaluation"])
def test_sums_have_the_noise_of_the_plan(name: str, tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        private = let_in(clinic)
        owners = np.array([0, 0, 1, 1, 2, 2])
        sums = release_sums(private, name, bounded(), owners, 1)
        expected = 3 * 0.01  # a person's rows count once, as their mean
        sigma = private.plan.release_event(name).noise_multiplier * 2**0.5
        off = sums["x"] - expected
        assert abs(off.std() / sigma - 1) < 0.1
        assert abs(off.mean()) < 5 * sigma / 2000**0.5
        again = release_sums(private, name, bounded(), owners, 1)
        assert not np.array_equal(sums["x"], again["x"])


def test_exact_sums_are_exact_where_the_policy_says_so(tmp_path: Path) -> None:
    with make_clinic(tmp_path, policy=make_policy(make_rules(exact_sums=True))) as clinic:
        private = let_in(clinic)
        assert private.guarantee == "none"
        sums = release_sums(private, "statistics", bounded(), np.array([0, 0, 1, 1, 2, 2]), 0)
        np.testing.assert_allclose(sums["x"], 0.03)
        np.testing.assert_allclose(sums["n"], 3.0)


def test_simulated_noise_is_repeated_by_site_and_round_and_stamped(tmp_path: Path) -> None:
    with make_clinic(tmp_path, SIMULATED, policy=LAX) as clinic:
        private = let_in(clinic)
        owners = np.arange(6)

        def noise(name: str, number: int, study: PrivateStudy = private) -> bytes:
            return release_sums(study, name, bounded(), owners, number)["x"].tobytes()

        assert private.guarantee == "none"
        assert noise("statistics", 0) == noise("statistics", 0)
        assert private.seed is not None
        south = replace(private, seed=private.seed + 1)
        several = {noise("statistics", 0), noise("evaluation", 1), noise("evaluation", 2)}
        assert len(several | {noise("statistics", 0, south)}) == 4
        (hold,) = [entry for entry in clinic.ledger.entries() if entry.kind == "hold"]
        assert hold.guarantee == "none"


def guarded(clinic: Clinic, norm: float, size: int = 4000) -> np.ndarray:
    update = np.ones(size, dtype=np.float32)
    return bound_update(let_in(clinic), update * np.float32(norm / size**0.5), 1)


@pytest.mark.parametrize("norm", [0.5, 2.0, 50.0])
def test_a_sites_update_is_clipped_and_noised(norm: float, tmp_path: Path) -> None:
    with make_clinic(tmp_path, study=site_study(), policy=make_policy(site_rules())) as clinic:
        noisy = guarded(clinic, norm)
        assert noisy.dtype == np.float32
        kept = min(norm, 2.0) / 4000**0.5
        assert abs((noisy - kept).std() - 2.0) < 0.2
        assert not np.array_equal(noisy, guarded(clinic, norm))


@pytest.mark.parametrize("place", ["site", "server"])
def test_the_second_guarantee_is_noised_where_the_study_says(place: str, tmp_path: Path) -> None:
    policy = make_policy(make_rules(allow_site_noise_at_server=True))
    with make_clinic(tmp_path, study=guaranteed_study(place), policy=policy) as clinic:
        update = guarded(clinic, 50.0)
        if place == "server":
            assert float(np.linalg.norm(update.astype(np.float64))) == pytest.approx(2.0, rel=1e-5)
            assert float(np.linalg.norm(update.astype(np.float64))) <= 2.0
        else:
            assert abs(update.std() - 2.0) < 0.2
        (hold,) = [entry for entry in clinic.ledger.entries() if entry.kind == "hold"]
        said = hold.details["second guarantee"]
        assert isinstance(said, dict)
        assert said["noise_at"] == place


def test_noise_at_the_server_is_refused_unless_the_policy_allows_it(tmp_path: Path) -> None:
    with make_clinic(tmp_path, study=guaranteed_study("server")) as clinic:
        assert "allow_site_noise_at_server" in refused(clinic.ask(clinic.train()), "policy")


def test_an_update_without_a_site_guarantee_stays_as_it_is(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        update = np.arange(5, dtype=np.float32)
        assert bound_update(let_in(clinic), update, 1) is update


def test_an_update_that_is_not_finite_counts_as_zero(tmp_path: Path) -> None:
    with make_clinic(tmp_path, study=site_study(), policy=make_policy(site_rules())) as clinic:
        update = np.full(3000, np.inf, dtype=np.float32)
        assert abs(bound_update(let_in(clinic), update, 1).std() - 2.0) < 0.2
