"""What the coordinator keeps over a run of secure sums."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.server.secure_scripted import SECURE, SecureScripted, federation
from tests.server.test_secure_sum import make_plan
from tests.strategies.samples import make_study
from vestry_server.secure_run import SecureRun
from vestry_strategies.study import StudyError


def run_of(count: int = 4, now: float = 0.0, **more: object) -> SecureRun:
    directory, coordinator, _ = federation(tuple(f"site-{number:03d}" for number in range(count)))
    return SecureRun(directory, coordinator, "run", lambda: now, **more)  # type: ignore[arg-type]


def test_the_roster_is_the_directory() -> None:
    assert run_of(3).names == ("site-000", "site-001", "site-002")


def test_sequence_numbers_only_grow_whatever_the_clock_does() -> None:
    secure = run_of(now=1.5)
    assert secure.sequence == 0
    assert [secure.next_sequence(0) for _ in range(3)] == [1500, 1501, 1502]
    assert secure.next_sequence(9_000) == 9_001  # the checkpoint knows more than the clock
    assert secure.next_sequence(0) == secure.sequence == 9_002
    assert run_of(now=0.0).next_sequence(0) == 1


def test_a_study_of_enough_sites_is_let_through() -> None:
    for count in (3, 200):
        run_of(count).check_study(make_study(SECURE))


@pytest.mark.parametrize(
    ("count", "changes", "said"),
    [
        (2, "", "2 sites; a sum hides one of at least 3"),
        (4, "\nmin_sites = 5", "4 sites; a sum hides one of at least 5"),
        (201, "", "201 sites; at most 200 can add up"),
    ],
)
def test_a_study_that_cannot_add_up_is_refused_with_the_ways_out(count: int, changes: str, said: str) -> None:
    study = make_study((SECURE[0], SECURE[1] + changes))
    with pytest.raises(StudyError, match=said) as caught:
        run_of(count).check_study(study)
    assert "secure = false" in str(caught.value)


def test_transcripts_are_kept_all_or_the_newest(tmp_path: Path) -> None:
    plan = make_plan(SecureScripted())
    for newest, kept in ((None, 5), (2, 2)):
        folder = tmp_path / str(newest)
        secure = run_of(transcripts=folder, newest=newest)
        for sequence in range(8, 13):
            secure.keep_transcript(replace(plan, sequence=sequence), b"content")
        names = sorted(path.name for path in folder.iterdir())
        assert len(names) == kept
        assert names[-1] == f"{12:020d}-train-000001.transcript"


def test_a_disk_that_refuses_a_transcript_stops_no_round(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    secure = run_of(transcripts=tmp_path / "file")
    secure.keep_transcript(make_plan(SecureScripted()), b"content")
    run_of().keep_transcript(make_plan(SecureScripted()), b"content")
    assert (tmp_path / "file").read_bytes() == b""
