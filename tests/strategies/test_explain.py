"""Findings in words: path, problem, way out."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vestry_strategies.explain import explain_validation


class Base(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Mlp(Base):
    kind: Literal["mlp"]
    width: int = Field(ge=1, description="Width of the layer.")


class Cnn(Base):
    kind: Literal["cnn"]
    depth: int


class Recipe(Base):
    models: list[Annotated[Mlp | Cnn, Field(discriminator="kind")]]
    rate: float = Field(gt=0)
    way: Literal["up", "down"] = "up"


def said(text: str) -> str:
    with pytest.raises(ValidationError) as error:
        Recipe.model_validate_json(text)
    return explain_validation(error.value, Recipe)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"models": [], "rate": 0}', "rate: should be greater than 0 (found 0)"),
        ('{"models": [], "rate": "x"}', "rate: should be a valid number (found 'x')"),
        ('{"models": []}', "rate: is required and missing; number"),
        ('{"models": [], "rate": 1, "rat": 2}', "rat: there is no such key; did you mean 'rate'?"),
        ('{"models": [], "rate": 1, "way": "left"}', "way: should be 'up' or 'down' (found 'left')"),
        (
            '{"models": [], "rate": 1, "zzz": 2}',
            "zzz: there is no such key; known here: models, rate, way",
        ),
        (
            '{"models": [{"kind": "mlp"}], "rate": 1}',
            "models[0].width: is required and missing; Width of the layer",
        ),
        (
            '{"models": [{"kind": "cnn", "depth": 1}, {"kind": "mlp", "width": 0}], "rate": 1}',
            "models[1].width: should be greater than or equal to 1 (found 0)",
        ),
        (
            '{"models": [{"kind": "mlp", "width": 1, "wdth": 1}], "rate": 1}',
            "models[0].wdth: there is no such key; did you mean 'width'?",
        ),
        (
            '{"models": [{"kind": "rnn"}], "rate": 1}',
            "models[0].kind: 'rnn' is unknown; use one of 'mlp', 'cnn'",
        ),
        ('{"models": [{}], "rate": 1}', "models[0].kind: is required and missing"),
        ("{", "the text is no JSON"),
    ],
)
def test_a_finding_is_one_line(text: str, expected: str) -> None:
    assert said(text) == expected


def test_several_findings_are_a_list() -> None:
    assert said('{"models": [], "rate": 0, "way": 1}').startswith("2 problems\n  rate: ")
