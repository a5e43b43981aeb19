"""The study file: one frozen, strict description of everything that decides a result.

Errors of this package's study files::

    VestryError
    └── StudyError            the file is missing, is no TOML, or breaks a rule
        └── StudyMismatch     a run belongs to another study
"""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from vestry_privacy.canonical import canonical_hash
from vestry_privacy.errors import VestryError
from vestry_strategies.explain import explain_validation
from vestry_strategies.recipe import (
    AggregationSpec,
    EarlyStoppingSpec,
    EvaluationSpec,
    ModelSpec,
    PrivacySpec,
    StrategySpec,
    StudySection,
    TrainingSpec,
)
from vestry_strategies.rules import broken_rules
from vestry_strategies.schema import Section, TaskSpec

__all__ = [
    "StudyError",
    "StudyMismatch",
    "StudySpec",
    "load_study",
    "parse_study",
    "study_from_json",
    "study_schema",
]


class StudyError(VestryError):
    """A study file is refused; the message lists every key, the problem and what would be right."""


class StudyMismatch(StudyError):
    """Something belongs to another study than the one in hand."""


class StudySpec(Section):
    """A whole study. Its canonical hash is its identity."""

    version: Literal[1] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    study: StudySection
    task: TaskSpec
    model: ModelSpec
    training: TrainingSpec
    strategy: StrategySpec = Field(default_factory=lambda: StrategySpec(name="fedavg"))
    aggregation: AggregationSpec = Field(default_factory=AggregationSpec)
    privacy: PrivacySpec | None = None
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec)
    early_stopping: EarlyStoppingSpec | None = None

    @model_validator(mode="after")
    def _combinations(self) -> "StudySpec":
        broken = broken_rules(
            task=self.task,
            model=self.model,
            training=self.training,
            strategy=self.strategy,
            aggregation=self.aggregation,
            privacy=self.privacy,
            evaluation=self.evaluation,
            early_stopping=self.early_stopping,
        )
        if broken:
            raise ValueError("\n".join(broken))
        return self

    def canonical(self) -> dict[str, Any]:
        """The plain values that the hash covers: every setting, defaults included, None left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def digest(self) -> str:
        """SHA-256 over the canonical bytes, 64 hexadecimal digits: the study's identity."""
        return canonical_hash("vestry-study/1", self.canonical())

    def to_json(self) -> str:
        """One line of JSON that :func:`study_from_json` reads back to an equal study."""
        return json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))

    def with_changes(self, *, rounds: int | None = None, seed: int | None = None) -> "StudySpec":
        """A copy with another number of rounds or another seed, checked again."""
        plain = self.canonical()
        if rounds is not None:
            plain["training"]["rounds"] = rounds
        if seed is not None:
            plain["seed"] = seed
        return study_from_json(json.dumps(plain))


def load_study(path: Path) -> StudySpec:
    """Read and check a study file.

    Args:
        path: a TOML file.

    Raises:
        StudyError: it cannot be read, is no TOML, or breaks a rule.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    try:
        return parse_study(text)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None


def parse_study(text: str) -> StudySpec:
    """Read and check a study from TOML text.

    Raises:
        StudyError: the text is no TOML, or breaks a rule.
    """
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"this is no TOML: {error}") from None
    return study_from_json(json.dumps(plain, default=str))


def study_from_json(text: str) -> StudySpec:
    """Read and check a study from JSON, the form in which it travels.

    Raises:
        StudyError: the text is no JSON, or breaks a rule.
    """
    try:
        return StudySpec.model_validate_json(text)
    except ValidationError as error:
        raise StudyError(explain_validation(error, StudySpec)) from None


def study_schema() -> dict[str, Any]:
    """The JSON Schema of a study file, for editors."""
    schema = StudySpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Vestry study"
    return schema
