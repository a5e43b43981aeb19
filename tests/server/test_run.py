"""Opening a run: what is refused before anybody is asked, and what an update's length is."""

import pytest

from tests.client.bench import make_study
from tests.server.scripted import SIZE, Course, Scripted
from tests.server.secure_scripted import SECURE, SecureCourse, SecureScripted, federation
from vestry_server.run import diverging, open_run, too_few
from vestry_server.secure_run import SecureRun
from vestry_strategies.study import StudyError


def opened(*changes: tuple[str, str], sites: tuple[str, ...] | None = None) -> None:
    secure = None
    if sites is not None:
        directory, coordinator, _ = federation(sites)
        secure = SecureRun(directory, coordinator, "run")
    open_run(make_study(*changes), Scripted(), lambda state: None, lambda event: None, secure=secure)


def test_secure_aggregation_needs_identities() -> None:
    with pytest.raises(StudyError, match=r"no directory of the sites' identities.*secure = false"):
        opened(SECURE)
    opened(SECURE, sites=("a", "b", "c"))


def test_secure_aggregation_needs_three_sites() -> None:
    with pytest.raises(StudyError, match="2 sites; a sum hides one of at least 3"):
        opened(SECURE, sites=("a", "b"))


def test_a_study_in_the_clear_uses_no_identities() -> None:
    directory, coordinator, _ = federation(("a", "b"))
    course = Course(secure=SecureRun(directory, coordinator, "run"))
    assert course.run.secure is None
    assert SecureCourse(sites=SecureScripted()).run.secure is not None


def test_an_update_is_as_long_as_the_model_and_what_the_strategy_adds() -> None:
    assert Course().run.update_size == SIZE


def test_the_first_model_is_the_seeds() -> None:
    one, again, other = (Course(("seed = 5", f"seed = {seed}")).first for seed in (1, 1, 2))
    assert one.tolist() == again.tolist()
    assert one.tolist() != other.tolist()


def test_too_few_names_everybody() -> None:
    said = too_few("round 3", 1, make_study(), {"b": "no reply", "c": "policy: no"})
    assert said == (
        "round 3: 1 sites gave a usable reply, aggregation.min_sites = 2\n  b: no reply\n  c: policy: no"
    )


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("diverged: its loss is not finite", True),
        ("its update is not finite", True),
        ("its update has norm 2e9, above aggregation.max_update_norm = 1e6", True),
        ("no reply before the deadline", False),
        ("policy: it diverged", False),
    ],
)
def test_divergence_is_told_from_other_reasons(reason: str, found: bool) -> None:
    assert diverging({"a": "no reply", "b": reason}) is found
