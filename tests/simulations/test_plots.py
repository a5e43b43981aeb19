"""Charts: the page's colours, no network, the same bytes for the same result, any number of sites."""

import pytest

from tests.simulations.samples import private_result, sample_result
from tests.simulations.test_curve import point
from tests.strategies.samples import MULTI_STUDY, NUMBERS_STUDY
from vestry_simulations.curve import CurvePoint
from vestry_simulations.plots import charts, curve_charts, curve_png, png
from vestry_strategies.study import parse_study


def test_two_charts_and_a_third_with_baselines() -> None:
    assert [chart.title for chart in charts([sample_result()])] == [
        "auc on held-out rows, by round",
        "loss, by round",
    ]
    assert charts([sample_result(baselines=True)])[-1].title == "auc by site: together, pooled, alone"


def test_charts_take_the_pages_colours_and_need_no_network() -> None:
    for chart in charts([sample_result(baselines=True)]):
        assert chart.svg.startswith("<svg")
        assert "currentColor" in chart.svg
        assert "http" not in chart.svg
        assert "<metadata" not in chart.svg
        assert "NaN" not in chart.svg


def test_equal_results_give_equal_charts() -> None:
    assert charts([sample_result(baselines=True)]) == charts([sample_result(baselines=True)])


def test_lines_are_named_where_they_end() -> None:
    svg = charts([sample_result()])[0].svg
    for name in ("cleveland", "hungary", "all rows"):
        assert name in svg


@pytest.mark.parametrize("sites", [1, 13, 60])
@pytest.mark.parametrize(("rounds", "every"), [(1, 1), (4, 3), (2, 5)])
def test_any_number_of_sites_and_rounds_is_drawn(sites: int, rounds: int, every: int) -> None:
    names = [f"site-{number:02d}" for number in range(sites)]
    result = sample_result(names, baselines=True, rounds=rounds, every=every)
    evaluated, few = rounds >= every, sites <= 40  # what was not measured has no chart
    assert len(charts([result])) == 1 + evaluated + few


@pytest.mark.parametrize("text", [MULTI_STUDY, NUMBERS_STUDY])
def test_a_metric_that_was_not_measured_gives_way_to_one_that_was(text: str) -> None:
    found = charts([sample_result(study=parse_study(text))])
    assert found[0].title in ("accuracy on held-out rows, by round", "loss on held-out rows, by round")


def test_a_picture_for_slides() -> None:
    picture = png([sample_result(baselines=True)])
    assert picture.startswith(b"\x89PNG\r\n")
    width = int.from_bytes(picture[16:20], "big")
    assert width > 3000


def titles(*, metrics: bool) -> list[str]:
    return [chart.title for chart in charts([private_result(metrics=metrics)])]


def test_under_privacy_there_is_a_chart_of_epsilon_and_none_of_losses() -> None:
    assert titles(metrics=False) == ["epsilon of a person, by round"]
    assert titles(metrics=True) == [
        "auc on held-out rows, by round (noised)",
        "epsilon of a person, by round",
    ]


def test_the_studys_epsilon_is_drawn_beside_what_was_spent() -> None:
    svg = charts([private_result()])[0].svg
    assert "study's epsilon" in svg
    assert "spent" in svg
    assert "NaN" not in svg
    assert png([private_result()]).startswith(b"\x89PNG\r\n")


CURVE = [point(0.9, 0.92, epsilon=None), point(0.88, 0.9), point(0.8, 0.7, epsilon=1.0, spent=0.9)]


def test_a_curve_has_a_chart_for_each_metric() -> None:
    found = curve_charts(CURVE, ["accuracy", "auc"])
    assert [chart.title.split(",")[0] for chart in found] == [
        "accuracy on all held-out rows",
        "auc on all held-out rows",
    ]
    for chart in found:
        assert "without privacy" in chart.svg
        assert "private" in chart.svg
        assert "NaN" not in chart.svg
        assert "http" not in chart.svg


@pytest.mark.parametrize("points", [CURVE[:1], CURVE[1:2], CURVE[1:], [point(0.8)]])
def test_a_curve_of_any_points_is_drawn(points: list[CurvePoint]) -> None:
    assert len(curve_charts(points, ["accuracy"])) == 1
    assert len(curve_charts(points, ["unheard of"])) == 1


def test_equal_curves_give_equal_charts_and_a_picture() -> None:
    assert curve_charts(CURVE, ["auc"]) == curve_charts(CURVE, ["auc"])
    picture = curve_png(CURVE, ["accuracy", "auc"])
    assert picture.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(picture[16:20], "big") > 2000
