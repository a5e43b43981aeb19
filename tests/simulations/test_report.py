"""The report: self-contained, complete, and deaf to markup in a user's text."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.simulations.samples import private_result, sample_result
from tests.simulations.test_curve import point
from tests.strategies.samples import make_study
from vestry_simulations.report import curve_html, report_html, write_curve, write_png, write_report

VOID = {"meta", "br", "path", "use", "line", "rect", "image", "link", "img", "hr"}


class Checker(HTMLParser):
    """Notes tags, and whether each that opens also closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return checker


def test_every_tag_closes_and_nothing_comes_from_outside() -> None:
    html = report_html([sample_result(baselines=True)])
    checker = checked(html)
    assert checker.addresses == []
    assert "script" not in checker.tags
    for outside in ("http:", "https:", "@import", "url(http"):
        assert outside not in html


def test_it_says_what_was_done_and_how_good_it_is() -> None:
    result = sample_result(baselines=True)
    html = report_html([result])
    for part in (
        "heart-four-hospitals",
        result.study.digest(),
        result.model_sha256,
        "Insecure choices",
        "aggregation.secure = false",
        "mean of sites",
        "all rows",
        "pooled",
        "local-only",
        "basel",
        "fewer than 10 rows",
        "no reply before the deadline",
        "training.learning_rate",
        "task.features[age]",
        "Every round",
    ):
        assert part in html, part


def test_the_honest_crowd_is_said_where_there_is_one() -> None:
    words = "an update is hidden among at least t - c = 2 honest sites <4 sites>"
    html = report_html([replace(sample_result(), crowd=words)])
    checked(html)
    assert "Secure aggregation: an update is hidden among at least t - c = 2 honest sites &lt;4" in html
    assert "no site's update" in html
    assert "Secure aggregation:" not in report_html([sample_result()])


def test_charts_are_named_for_those_who_do_not_see_them() -> None:
    html = report_html([sample_result()])
    assert html.count('<svg role="img" aria-label="') == 2


def test_what_is_not_defined_is_a_dash_with_a_reason() -> None:
    assert 'title="not defined here' in report_html([sample_result()])


def test_seeds_come_with_mean_and_deviation() -> None:
    html = report_html([sample_result(), sample_result(), sample_result()])
    assert "3 seeds" in html
    assert "±" in html
    assert "±" not in report_html([sample_result()])


def test_text_of_a_user_is_never_markup() -> None:
    study = make_study(
        ('purpose = "a test"', "purpose = '<script>alert(1)</script>'"),
        ('initiator = "tests"', "initiator = '<img src=x onerror=alert(1)>'"),
    )
    names = ["<b>site</b>", '"><script>x</script>']
    html = report_html([sample_result(names, study=study, baselines=True)])
    checker = checked(html)
    assert "script" not in checker.tags
    assert "img" not in checker.tags
    assert "b" not in [tag for tag in checker.tags if tag == "b"][8:]
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("sites", [1, 200])
def test_few_and_many_sites(sites: int) -> None:
    checked(report_html([sample_result([f"s{number}" for number in range(sites)])]))


def test_a_run_without_evaluation() -> None:
    checked(report_html([sample_result(rounds=2, every=5)]))


def test_an_early_end_is_said() -> None:
    assert "Ended early: loss &lt; x" in report_html([replace(sample_result(), stopped="loss < x")])


def test_equal_results_give_equal_reports() -> None:
    assert report_html([sample_result()]) == report_html([sample_result()])


def test_files_are_written(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [sample_result()])
    write_png(tmp_path / "report.png", [sample_result()])
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_a_private_report_says_what_the_ledgers_say() -> None:
    html = report_html([private_result(site_epsilon=1.25)])
    checked(html)
    for part in (
        "<h2>Privacy</h2>",
        "Epsilon at delta 0.001 of a patient, zero-out",
        "At most 2.750 at one site",
        "somebody in the training data of every site",
        "left no site",
        "epsilon of a person, at most",
        "whole site",
        "1.250",
        "0.550",  # epsilon after the first round
        "Cryptographic noise is fresh in every run",
    ):
        assert part in html, part
    assert "byte for byte" not in html
    assert "None" not in html


def test_a_report_without_privacy_says_nothing_of_it() -> None:
    html = report_html([sample_result()])
    assert "<h2>Privacy</h2>" not in html
    assert "byte for byte" in html


def test_names_of_sites_are_no_markup_in_the_privacy_table() -> None:
    checker = checked(report_html([private_result(["<script>x</script>", "b"])]))
    assert "script" not in checker.tags


CURVE = [point(0.9, 0.92, epsilon=None), point(0.88, 0.9), point(0.8, 0.7, epsilon=1.0, spent=0.9)]


def test_a_curve_is_a_report_of_its_own(tmp_path: Path) -> None:
    html = curve_html(CURVE)
    checker = checked(html)
    assert checker.addresses == []
    for part in ("Utility by epsilon", "2 seeds", "none", "7.600", "0.890 ± 0.014", "<svg"):
        assert part in html, part
    assert curve_html(CURVE) == html
    path = write_curve(tmp_path / "curve.html", CURVE, png=True)
    assert path.read_text(encoding="utf-8") == html
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    write_curve(tmp_path / "alone.html", CURVE)
    assert not (tmp_path / "alone.png").exists()
