"""`vestry verify transcript` as a third party types it: it needs the file and vestry_privacy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.secure_scripted import SecureScripted
from tests.server.test_secure_sum import add_up, lost_at, run_of, script
from tests.simulations.laboratory import environment, refused, vestry


@pytest.fixture(scope="module")
def transcript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a sum of four sites that lost one."""
    folder = tmp_path_factory.mktemp("transcripts")
    sites = SecureScripted(script=script, meddle=lost_at("input", "d"))
    add_up(sites, run_of(sites, folder))
    (path,) = folder.iterdir()
    return path


def test_sets_and_what_is_proved_are_said(transcript: Path) -> None:
    result = vestry("verify", "transcript", transcript)
    assert result.returncode == 0, result.stderr
    lines = dict(line.split("  ", 1) for line in result.stdout.splitlines()[1:])
    said = {name: fact.strip() for name, fact in lines.items()}
    assert result.stdout.startswith(f"{transcript}: holds")
    assert said["sum"].startswith("train, round 1, run run, sequence 1")
    assert said["lost"] == "1: d"
    assert sorted(said["in the sum"].removeprefix("3: ").split(", ")) == ["a", "b", "c"]
    assert said["signed keys"].startswith("4: ")
    assert said["threshold"].startswith("3 of 4 sites; an update hides among at least 2 honest ones")
    assert said["sum of weights"] == "60, as the coordinator says"
    assert "signature" in said["proved"]
    assert said["not proved"].startswith("the sum")


def test_the_same_for_machines(transcript: Path) -> None:
    line = json.loads(vestry("verify", "transcript", transcript, "--json").stdout)
    assert line["ok"] is True
    assert line["proves_the_sum"] is False
    assert (line["kind"], line["round"], line["threshold"], line["honest_crowd"]) == ("train", 1, 3, 2)
    assert line["lost"] == ["d"]
    assert sorted(line["survivors"]) == ["a", "b", "c"]
    assert len(line["directory"]) == 64


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_changed_byte_is_found(transcript: Path, tmp_path: Path, place: float) -> None:
    content = bytearray(transcript.read_bytes())
    content[int(place * len(content))] ^= 1
    (tmp_path / "changed").write_bytes(content)
    refused(vestry("verify", "transcript", tmp_path / "changed"), "FILE:", "does not hold")


def test_what_is_no_transcript_is_refused(transcript: Path, tmp_path: Path) -> None:
    refused(vestry("verify", "transcript", tmp_path / "gone"), "FILE:", "cannot be read")
    (tmp_path / "short").write_bytes(transcript.read_bytes()[:-1])
    refused(vestry("verify", "transcript", tmp_path / "short"), "FILE:", "does not hold")
    (tmp_path / "empty").write_bytes(b"")
    refused(vestry("verify", "transcript", tmp_path / "empty", "--json"), "FILE:", "does not hold")


def loaded(transcript: Path, module: str, *arguments: str) -> list[set[str]]:
    """Our packages and the heavy ones that a command has loaded when it ends."""
    program = (
        f"import sys\nfrom {module} import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "print(*sorted(name for name in names if name.startswith('vestry_')), file=sys.stderr)\n"
        "print(*sorted(names & {'torch', 'flwr', 'opacus', 'sqlalchemy', 'matplotlib'}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, str(transcript)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "holds" in done.stdout
    return [set(line.split()) for line in done.stderr.splitlines()]


def test_neither_torch_nor_flower_is_loaded(transcript: Path) -> None:
    _, heavy = loaded(transcript, "vestry_simulations.cli", "verify", "transcript")
    assert heavy == set()


def test_the_check_itself_loads_the_privacy_package_only(transcript: Path) -> None:
    ours, heavy = loaded(transcript, "vestry_simulations.verify_command", "transcript")
    assert ours == {"vestry_privacy", "vestry_simulations"}
    assert heavy == set()
