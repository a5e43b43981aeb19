"""docs/study-file.md names exactly the keys that a study file has."""

import re
from pathlib import Path
from typing import Any

import pytest

from vestry_strategies.catalogue import METRICS
from vestry_strategies.strategies import STRATEGIES
from vestry_strategies.study import study_schema

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "study-file.md").read_text(encoding="utf-8")
SECTIONS = {
    "[study]": "StudySection",
    '[task], kind = "tabular"': "TabularTask",
    '[[task.features]], type = "number"': "NumberFeature",
    '[[task.features]], type = "boolean"': "BooleanFeature",
    '[[task.features]], type = "category"': "CategoryFeature",
    '[task], kind = "image"': "ImageTask",
    '[task], kind = "plugin"': "PluginTask",
    "[task.target]": "Target",
    '[model], kind = "mlp"': "MlpModel",
    '[model], kind = "cnn"': "CnnModel",
    '[model], kind = "plugin"': "PluginModel",
    "[training]": "TrainingSpec",
    "[training.schedule]": "ScheduleSpec",
    "[strategy]": "StrategySpec",
    "[aggregation]": "AggregationSpec",
    "[privacy]": "PrivacySpec",
    "[privacy.site]": "SiteGuaranteeSpec",
    "[evaluation]": "EvaluationSpec",
    "[evaluation.holdout]": "HoldoutSpec",
    "[early_stopping]": "EarlyStoppingSpec",
}


def documented(section: str) -> set[str]:
    """First cells of the section's first table."""
    body = TEXT.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    table = re.search(r"\| key \|.*?(?=\n\n|\Z)", body, re.DOTALL)
    assert table is not None
    return set(re.findall(r"^\| `(\w+)` \|", table.group(0), re.MULTILINE))


def keys_of(model: str) -> set[str]:
    definition: dict[str, Any] = study_schema()["$defs"][model]
    return set(definition["properties"])


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_documented_and_every_documented_key_exists(section: str) -> None:
    assert documented(section) == keys_of(SECTIONS[section])


def test_every_section_of_the_schema_is_documented() -> None:
    without_keys = {"LogisticModel", "LinearModel"}
    assert set(study_schema()["$defs"]) == set(SECTIONS.values()) | without_keys


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_documented(strategy: str) -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{strategy}` |"))
    assert set(re.findall(r"`(\w+)` \(", row)) == set(STRATEGIES[strategy].parameters)


@pytest.mark.parametrize("target", METRICS)
def test_every_metric_is_documented(target: str) -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| {target} |"))
    assert set(re.findall(r"`(\w+)`", row)) == set(METRICS[target])
