"""What a study cannot have is refused; what is insecure is stamped."""

import pytest

from tests.strategies.samples import DECLARED, make_study, private_study
from vestry_strategies.study import StudyError, StudySpec
from vestry_strategies.support import check_supported, insecure_choices

SECURE = ("secure = false", "secure = true")
SITE = ('unit_column = "patient"', 'unit = "site"')
SITE_IN_FULL = ("sampling_probability = 0.25\n", "")
SECOND = "[privacy.site]\nepsilon = 1.0\ndelta = 1e-2\nclip = 1.0\n"
AT_SERVER = ("[evaluation]", SECOND + 'noise_at = "server"\n[evaluation]')


@pytest.mark.parametrize("study", [make_study(), private_study(), private_study(DECLARED, AT_SERVER)])
def test_a_study_that_says_what_it_does_without_is_supported(study: StudySpec) -> None:
    check_supported(study)


def test_secure_aggregation_is_asked_for_by_default_and_supported() -> None:
    study = make_study(("secure = false", "min_sites = 2"))
    assert study.aggregation.secure
    check_supported(study)
    check_supported(private_study(SECURE))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("min_sites = 201", r"aggregation\.min_sites: 201; at most 200 sites"),
        ("cohort = 2\nmin_sites = 2", r"aggregation\.cohort: 2; 3 to 200 sites"),
        ("cohort = 201\nmin_sites = 2", r"aggregation\.cohort: 201; 3 to 200 sites"),
    ],
)
def test_fewer_sites_than_hide_one_and_more_than_add_up_are_refused(setting: str, said: str) -> None:
    with pytest.raises(StudyError, match=f"{said}.*write secure = false"):
        check_supported(make_study(("secure = false", setting)))
    check_supported(make_study(("secure = false", f"secure = false\n{setting}")))


@pytest.mark.parametrize("setting", ["min_sites = 200", "cohort = 3\nmin_sites = 2", "cohort = 200"])
def test_the_smallest_and_the_largest_numbers_of_sites_are_supported(setting: str) -> None:
    check_supported(make_study(("secure = false", setting)))


@pytest.mark.parametrize(
    ("study", "stamped"),
    [
        (make_study(), ["aggregation.secure = false", "no [privacy]"]),
        (make_study(SECURE), ["no [privacy]"]),
        (private_study(), ["aggregation.secure = false"]),
        (private_study(SECURE), []),
        (
            private_study(SECURE, ("delta", 'noise = "simulation"\ndelta')),
            ["privacy.noise = 'simulation': guarantee none"],
        ),
        (
            private_study(SECURE, DECLARED, SITE, SITE_IN_FULL),
            ["privacy.unit = 'site': nothing bounds what the model tells about one patient"],
        ),
        (
            private_study(SECURE, DECLARED, AT_SERVER),
            ["privacy.site.noise_at = 'server': protects from recipients, not the coordinator"],
        ),
        (private_study(SECURE, DECLARED, ("[evaluation]", SECOND + "[evaluation]")), []),
    ],
)
def test_every_insecure_choice_is_stamped(study: StudySpec, stamped: list[str]) -> None:
    choices = insecure_choices(study)
    assert len(choices) == len(stamped)
    for choice, start in zip(choices, stamped, strict=True):
        assert choice.startswith(start)
