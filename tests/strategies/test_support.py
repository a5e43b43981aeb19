"""What this version cannot do is refused; what is insecure is stamped."""

import pytest

from tests.strategies.samples import make_study
from vestry_strategies.study import StudyError
from vestry_strategies.support import check_supported, insecure_choices

SECURE = ("secure = false", "secure = true")
PRIVATE = ("[evaluation]", '[privacy]\nunit = "record"\nepsilon = 1.0\ndelta = 1e-5\n[evaluation]')


def test_a_study_that_says_what_it_does_without_is_supported() -> None:
    check_supported(make_study())


def test_secure_aggregation_is_asked_for_by_default_and_refused() -> None:
    study = make_study(("secure = false", "min_sites = 2"))
    assert study.aggregation.secure
    with pytest.raises(StudyError, match=r"aggregation\.secure: .* write secure = false"):
        check_supported(study)


def test_differential_privacy_is_refused() -> None:
    with pytest.raises(StudyError, match=r"privacy: .* remove the section \[privacy\]"):
        check_supported(make_study(PRIVATE))


def test_both_are_said_at_once() -> None:
    with pytest.raises(StudyError, match=r"(?s)aggregation\.secure.*privacy:"):
        check_supported(make_study(SECURE, PRIVATE))


def test_every_insecure_choice_is_stamped() -> None:
    assert len(insecure_choices(make_study())) == 2
    assert len(insecure_choices(make_study(PRIVATE))) == 1
    assert insecure_choices(make_study(SECURE, PRIVATE)) == ()
