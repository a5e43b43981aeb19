"""The first minute, as a newcomer sees it."""

import re
from pathlib import Path

from tests.simulations.laboratory import vestry


def test_the_demo_trains_and_says_where_everything_is(tmp_path: Path) -> None:
    result = vestry("demo", "--out", tmp_path / "runs")
    assert result.returncode == 0, result.stderr
    text = result.stdout
    assert "four hospitals, 920 patients" in text
    assert len(re.findall(r"^round ( \d|\d\d)/15  4 sites", text, re.MULTILINE)) == 15
    for part in (
        "long-beach",
        "mean of sites",
        "secure aggregation: an update is hidden",
        "done in",
        "next:",
    ):
        assert part in text
    assert "insecure: aggregation.secure" not in text
    model = Path(re.findall(r"^model +(\S+)", text, re.MULTILINE)[0])
    report = Path(re.findall(r"^report +(\S+)", text, re.MULTILINE)[0])
    assert model.is_file()
    assert "<svg" in report.read_text()
    following = text.split("next: vestry ")[1].splitlines()[0].split()
    predicted = vestry(*following)
    assert predicted.returncode == 0
    assert len(predicted.stdout.splitlines()) == 921


def test_two_demos_come_to_the_same_model(tmp_path: Path) -> None:
    said = [
        vestry("demo", "--out", tmp_path / str(workers), "--workers", workers).stdout for workers in (0, 2)
    ]
    hashes = [re.findall(r"SHA-256 ([0-9a-f]{64})", text) for text in said]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 1
