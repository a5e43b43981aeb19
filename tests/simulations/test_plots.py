"""Charts: the page's colours, no network, the same bytes for the same result, any number of sites."""

import pytest

from tests.simulations.samples import sample_result
from tests.strategies.samples import MULTI_STUDY, NUMBERS_STUDY
from vestry_simulations.plots import charts, png
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
    assert len(charts([result])) == (3 if sites <= 40 else 2)


@pytest.mark.parametrize("text", [MULTI_STUDY, NUMBERS_STUDY])
def test_a_metric_that_was_not_measured_gives_way_to_one_that_was(text: str) -> None:
    found = charts([sample_result(study=parse_study(text))])
    assert found[0].title in ("accuracy on held-out rows, by round", "loss on held-out rows, by round")


def test_a_picture_for_slides() -> None:
    picture = png([sample_result(baselines=True)])
    assert picture.startswith(b"\x89PNG\r\n")
    width = int.from_bytes(picture[16:20], "big")
    assert width > 3000
