"""A site's memory of a study: rows read once, persons held against declarations, rules asked every day."""

import logging
from datetime import date
from pathlib import Path

import numpy as np
import pytest

import vestry_client.private as private_module
from tests.client.bench import make_bench as make_open_bench
from tests.client.bench import make_site
from tests.client.clinic import (
    answered,
    make_clinic,
    make_policy,
    make_rules,
    private_study,
    refused,
    site_rules,
    site_study,
    visits,
)
from vestry_client.policy import PolicyRefusal
from vestry_client.replies import Replies
from vestry_client.site import make_bench, preprocessing_of
from vestry_strategies.rows import DataError

HIDDEN = {"adjacency": "add-remove", "publish_persons": False}
ADD_REMOVE = (
    ("delta = 1e-5", 'delta = 1e-5\nadjacency = "add-remove"'),
    ("max_records = 4", "max_records = 4\nexpected_batch = 10.0"),
)


def test_rows_are_read_once_for_a_study(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        first = clinic.site.data(clinic.bench)
        assert clinic.site.data(clinic.bench) is first
        assert len(clinic.loads) == 1
        clinic.site.forget(clinic.study.digest())
        assert clinic.site.data(clinic.bench) is not first


def test_states_are_of_a_study_until_it_is_forgotten() -> None:
    site = make_site()
    kept = site.own_states("a")
    assert site.own_states("a") is kept
    assert site.own_states("b") is not kept
    site.forget("a")
    assert site.own_states("a") is not kept


def test_a_secret_is_in_no_representation() -> None:
    assert "hush" not in repr(make_site(secret=b"hush"))


@pytest.mark.parametrize("persons", [9, 10, 11])
def test_persons_that_are_counted_decide_nothing(persons: int, tmp_path: Path) -> None:
    """All rows or none is a step of ten persons at once: what is promised hides one."""
    table = visits(persons, 2)
    with make_clinic(tmp_path, table=table, policy=make_policy(make_rules(min_units=10))) as clinic:
        data = clinic.site.data(clinic.bench)
        assert len(data.train) + len(data.holdout) == 2 * persons


@pytest.mark.parametrize(("declared", "rows"), [(9, 0), (10, 80)])
def test_a_site_of_few_declared_persons_goes_on_without_its_rows(
    declared: int, rows: int, tmp_path: Path
) -> None:
    policy = make_policy(make_rules(**HIDDEN, persons=declared))
    with make_clinic(tmp_path, *ADD_REMOVE, policy=policy) as clinic:
        data = clinic.site.data(clinic.bench)
        assert len(data.train) + len(data.holdout) == rows


def test_a_public_number_that_is_too_small_is_refused_before_a_row_is_read(tmp_path: Path) -> None:
    with make_clinic(tmp_path, policy=make_policy(make_rules(persons=9))) as clinic:
        assert "min_units" in refused(clinic.ask(clinic.statistics()), "policy")
        assert clinic.loads == []


def test_more_persons_than_declared_are_refused_without_a_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with make_clinic(tmp_path, table=visits(51, 1)) as clinic, caplog.at_level(logging.WARNING):
        said = refused(clinic.ask(clinic.train()), "data")
        assert said == "the site's data cannot be used; its own log says why"
        assert "the data hold more persons than their population declares" in caplog.text
        assert clinic.charged() == 0
    with make_clinic(tmp_path / "fits", table=visits(50, 2)) as clinic:
        answered(clinic.ask(clinic.train()))


def test_persons_are_of_the_file_and_not_of_the_rows_that_a_study_chooses(tmp_path: Path) -> None:
    """Else contract and refusal together would count, study by study, whoever has some value."""
    for number, bound in enumerate(("120", "60")):
        study = private_study(("range = [0, 120]", f"range = [0, {bound}]"))
        more = pytest.raises(DataError, match="more persons")
        with make_clinic(tmp_path / str(number), study=study, table=visits(51, 1)) as clinic, more:
            clinic.site.data(clinic.bench)


@pytest.mark.parametrize("unit", ["record", "row", "site", "hidden"])
def test_what_a_unit_is_decides_who_is_counted(unit: str, tmp_path: Path) -> None:
    study, rules = site_study(), site_rules()
    column = 'unit = "patient"\nunit_column = "patient"'
    if unit == "record":
        study = private_study((column, 'unit = "record"'))
        rules = make_rules(unit="record", unit_column=None, persons=79)
    elif unit == "row":
        study = private_study((column, 'unit = "patient"\nunit_column = "row"'))
        rules = make_rules(unit_column="row", persons=79)
    elif unit == "hidden":
        study, rules = private_study(*ADD_REMOVE), make_rules(**HIDDEN, persons=30)
    with make_clinic(tmp_path, study=study, policy=make_policy(rules)) as clinic:
        if unit in {"record", "row"}:
            with pytest.raises(DataError):
                clinic.site.data(clinic.bench)  # of 80 rows
        else:
            assert len(clinic.site.data(clinic.bench).train) > 0


def test_budget_that_is_held_for_rows_that_cannot_be_used_is_given_back(tmp_path: Path) -> None:
    with make_clinic(tmp_path, table=visits(51, 1)) as clinic:
        refused(clinic.ask(clinic.statistics()), "data")
        assert clinic.kinds() == ["hold", "release"]
    with make_clinic(tmp_path) as clinic:  # the file is put right
        answered(clinic.ask(clinic.statistics()))
        assert clinic.kinds() == ["hold", "release", "hold", "reserve", "commit"]
    with make_clinic(tmp_path, table=visits(51, 1)) as clinic:  # spoilt again in the middle of the study
        refused(clinic.ask(clinic.train()), "data")
        assert clinic.kinds().count("release") == 1


def test_a_study_is_let_in_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = make_rules(expires=date(2030, 5, 1))
    with make_clinic(tmp_path, policy=make_policy(rules), replies=lambda digest: Replies()) as clinic:
        monkeypatch.setattr(private_module, "_today", lambda: date(2030, 4, 30))
        private = clinic.site.private(clinic.bench)
        reply = clinic.ask(clinic.train(1))
        assert clinic.site.private(clinic.bench) is private
        monkeypatch.setattr(private_module, "_today", lambda: date(2030, 5, 1))
        assert clinic.site.private(clinic.bench) is not private
        assert np.array_equal(answered(clinic.ask(clinic.train(1))).update, answered(reply).update)
        monkeypatch.setattr(private_module, "_today", lambda: date(2030, 5, 2))
        assert "expires" in refused(clinic.ask(clinic.train(2)), "policy")
        assert clinic.kinds().count("hold") == 1
        assert clinic.kinds().count("reserve") == 1


def test_without_a_secret_that_lasts_no_private_study_is_let_in(tmp_path: Path) -> None:
    with make_clinic(tmp_path, secret=b"") as clinic:
        with pytest.raises(PolicyRefusal, match="only with a secret of this site"):
            clinic.site.private(clinic.bench)
        assert clinic.kinds() == []


def test_a_bench_is_made_once_for_a_text() -> None:
    text = private_study().to_json()
    assert make_bench(text, ()) is make_bench(text, ())


def test_preprocessing_is_the_shared_one_unless_the_study_says_per_site() -> None:
    shared = {"mean": np.zeros(3)}
    site = make_site()
    bench = make_bench(make_open_bench().study.to_json(), ())
    assert preprocessing_of(bench, site.data(bench), shared) is shared
    change = ('kind = "tabular"', 'kind = "tabular"\nstandardise = "per-site"')
    bench = make_bench(make_open_bench(change).study.to_json(), ())
    own = preprocessing_of(bench, site.data(bench), shared)
    assert own["mean"].shape == (6,)
