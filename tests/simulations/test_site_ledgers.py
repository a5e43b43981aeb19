"""The privacy side of virtual sites: rules that let one study in, ledgers, and what they say at the end."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tests.client.bench import make_table
from tests.simulations.private_laboratory import (
    CLINICS,
    METRICS,
    SIMULATED,
    entries_of,
    lay_out,
    make_manifest,
)
from tests.strategies.samples import DECLARED, FULL_BATCH, PRIVACY, image_study, make_study, private_study
from vestry_client.policy import PolicyRefusal, SitePolicy, check_privacy
from vestry_privacy.accounting import epsilon, parse_event
from vestry_privacy.identity import load_identity
from vestry_privacy.ledger_entries import StudyRef
from vestry_privacy.ledger_errors import BudgetExceeded
from vestry_privacy.plan import PlanError, PrivacyPlan
from vestry_simulations.simulate import Laboratory, simulate
from vestry_simulations.site_ledgers import (
    DATASET,
    SitePrivacy,
    open_site_ledger,
    private_policy,
    public_persons,
    read_privacy,
)
from vestry_strategies.private_plan import study_plan
from vestry_strategies.rows import Table
from vestry_strategies.study import StudySpec
from vestry_strategies.tasks.image import ImageArrays
from vestry_strategies.tasks.registry import find_task

OPEN = {"allow_individual_updates": True, "min_examples": 1}
STUDY = private_study(FULL_BATCH, METRICS)
ADD_REMOVE = ("delta", 'adjacency = "add-remove"\nexpected_batch = 9.0\ndelta')
SITE = (DECLARED, ('unit_column = "patient"', 'unit = "site"'))
MARK = "ab" * 32


def persons_of(study: StudySpec, table: Table) -> int:
    return public_persons(study, find_task(study), table)


def with_patients(count: int, each: int) -> Table:
    table = make_table(count)
    names = np.array([f"p{row // each}" for row in range(count)])
    return Table({**table.columns, "patient": names})


def test_persons_are_counted_as_the_unit_says() -> None:
    table = with_patients(60, 4)
    assert persons_of(STUDY, table) == 15
    assert persons_of(private_study(('unit_column = "patient"', 'unit_column = "row"')), table) == 60
    assert persons_of(private_study(('unit_column = "patient"', 'unit = "record"')), table) == 60
    assert persons_of(make_study(), table) == 60


def test_patients_of_images_are_counted_by_their_array() -> None:
    section = PRIVACY.replace('"patient"', '"who"')
    study = image_study(("local_epochs", "local_steps"), ("[aggregation]", f"{section}[aggregation]"))
    rows = ImageArrays({"images": np.zeros((4, 6, 4, 2)), "who": np.array(["a", "b", "a", "c"])})
    assert public_persons(study, find_task(study), rows) == 3


def allowed(study: StudySpec, persons: int) -> SitePolicy:
    """The policy for a study, which must let the study in."""
    policy = private_policy(study, persons, OPEN)
    population, rules = policy.rules_for(DATASET)
    plan = study_plan(study, rules.persons)
    spec = study.privacy
    assert spec is not None
    check_privacy(
        population,
        rules,
        plan,
        metrics=spec.metrics,
        today=date(2026, 1, 1),
        noise_at_server=spec.site is not None and spec.site.noise_at == "server",
    )
    policy.check_study(study)
    return policy


SECOND = '[privacy.site]\nepsilon = 2.0\ndelta = 1e-2\nclip = 0.5\nnoise_at = "server"\n[evaluation]'


@pytest.mark.parametrize(
    "study",
    [
        STUDY,
        private_study(FULL_BATCH, SIMULATED),
        private_study(FULL_BATCH, ADD_REMOVE),
        private_study(("epsilon = 3.0", "noise_multiplier = 1.0")),
        private_study(("epsilon = 3.0", "noise_multiplier = 0.2")),
        private_study(
            ("epsilon = 3.0", "noise_multiplier = 1.0"), ('unit_column = "patient"', 'unit = "record"')
        ),
        private_study(FULL_BATCH, *SITE),
        private_study(FULL_BATCH, DECLARED, ("[evaluation]", SECOND)),
        private_study(FULL_BATCH, ("epsilon = 3.0", "epsilon = 0.01")),
    ],
)
def test_the_policy_lets_its_study_in_and_knows_its_persons(study: StudySpec) -> None:
    policy = allowed(study, 50)
    spec = study.privacy
    assert spec is not None
    (rules,) = policy.populations.values()
    public = {"zero-out": 1 if spec.unit == "site" else 50, "add-remove": None}[spec.adjacency]
    assert (rules.persons, rules.unit, rules.adjacency) == (public, spec.unit, spec.adjacency)
    assert not rules.exact_sums


def test_the_policy_lets_no_other_study_in() -> None:
    policy = private_policy(STUDY, 50, OPEN)
    population, rules = policy.rules_for(DATASET)
    plan = study_plan(STUDY, 50)
    others: list[PrivacyPlan] = [
        replace(plan, noise="simulation"),
        replace(plan, persons=51),
        replace(plan, steps=plan.steps * 40),
        replace(plan, max_records=17),
    ]
    for other in others:
        with pytest.raises(PolicyRefusal):
            check_privacy(population, rules, other, metrics=(), today=date(2026, 1, 1))
    with pytest.raises(PolicyRefusal, match="metrics"):
        check_privacy(population, rules, plan, metrics=("loss",), today=date(2026, 1, 1))


def test_without_privacy_a_site_has_no_population_and_no_ledger(tmp_path: Path) -> None:
    policy = private_policy(make_study(), 50, {**OPEN, "allow_training_without_privacy": True})
    assert policy.populations == {}
    assert open_site_ledger(tmp_path / "site", policy, MARK) is None
    assert not (tmp_path / "site").exists()
    assert read_privacy(make_study(), tmp_path, ("site",)) == {}


def test_a_study_whose_delta_protects_nobody_has_no_policy() -> None:
    with pytest.raises(PlanError, match=r"privacy\.delta: 0\.001 is not below 1/2000"):
        private_policy(STUDY, 2000, OPEN)


def hold(folder: Path, study: StudySpec, marks: list[str]) -> None:
    """Hold a study's plan once under each of these hashes."""
    policy = private_policy(study, 50, OPEN)
    ledger = open_site_ledger(folder, policy, MARK)
    assert ledger is not None
    plan = study_plan(study, policy.populations["persons"].persons)
    events = {"train": plan.events("train"), "holdout": plan.events("holdout")}
    with ledger:
        for mark in marks:
            ledger.hold("persons", StudyRef(mark, "study", mark[:16]), events, delta=plan.delta)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "study", [STUDY, private_study(FULL_BATCH, ADD_REMOVE), private_study(FULL_BATCH, *SITE)]
)
def test_the_budget_has_room_for_the_study_and_as_much_again_but_no_more(
    tmp_path: Path, study: StudySpec
) -> None:
    hold(tmp_path, study, ["a" * 64, "b" * 64])
    with pytest.raises(BudgetExceeded):
        hold(tmp_path, study, ["c" * 64])


def test_a_ledger_opened_again_is_the_same_one(tmp_path: Path) -> None:
    policy = private_policy(STUDY, 50, OPEN)
    kinds = []
    for _ in range(2):
        ledger = open_site_ledger(tmp_path / "site", policy, MARK)
        assert ledger is not None
        with ledger:
            kinds.append([entry.kind for entry in ledger.entries()])
    assert kinds[0] == kinds[1] == ["create", "register", "dataset"]
    assert (tmp_path / "site" / "identity.pem").stat().st_mode & 0o077 == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySpec, Path, dict[str, SitePrivacy]]:
    """A run of three clinics."""
    folder = lay_out(tmp_path_factory.mktemp("ledgers"), METRICS)
    manifest = make_manifest(folder)
    result = simulate(manifest, Laboratory(folder / "runs"))
    return manifest.study, folder / "runs" / "run", dict(result.privacy)


def test_every_sites_ledger_verifies_and_says_the_same(
    finished: tuple[StudySpec, Path, dict[str, SitePrivacy]],
) -> None:
    study, run, privacy = finished
    assert set(privacy) == set(CLINICS)
    for site, said in privacy.items():
        identity = load_identity(run / "sites" / site / "identity.pem")
        assert said.fingerprint == identity.fingerprint
        assert Path(said.ledger).samefile(run / "sites" / site / "ledger.sqlite")
        assert [entry.kind for entry in entries_of(run, site)][-1] == "release"
        assert said.epsilon == epsilon([parse_event(text) for text in said.events], 1e-3)
        assert (said.steps, said.guarantee, said.delta) == (20, "dp", 1e-3)
    assert len({(said.epsilon, said.epsilon_held_out) for said in privacy.values()}) == 1
    assert len({said.fingerprint for said in privacy.values()}) == 3
    assert read_privacy(study, run / "sites", CLINICS) == privacy


def test_sites_that_took_no_part_have_nothing_to_say(
    finished: tuple[StudySpec, Path, dict[str, SitePrivacy]],
) -> None:
    study, run, privacy = finished
    assert set(read_privacy(study, run / "sites", ("north", "nowhere"))) == {"north"}
    assert privacy["north"].site_epsilon is None


def test_what_a_ledger_says_survives_json(
    finished: tuple[StudySpec, Path, dict[str, SitePrivacy]],
) -> None:
    for said in finished[2].values():
        assert SitePrivacy.from_plain(json.loads(json.dumps(said.plain()))) == said
