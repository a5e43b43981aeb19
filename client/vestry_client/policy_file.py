"""The policy file (TOML) of a site: read strictly, and every problem named with its key and the way out.

VestryError
└── PolicyFileError    the file is missing, is no TOML, or breaks a rule
"""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from vestry_client.policy import SitePolicy
from vestry_client.privacy_rules import DatasetRule, PrivacyRules
from vestry_privacy.errors import VestryError
from vestry_strategies.explain import explain_validation
from vestry_strategies.schema import Section

__all__ = ["PolicyFileError", "load_policy", "parse_policy"]


class PolicyFileError(VestryError):
    """A policy file is refused; the message lists every key, the problem and what would be right."""


class _Population(Section):
    """One population by itself, so that its findings can be explained under its own name."""

    population: PrivacyRules


class _Dataset(Section):
    """One data set by itself."""

    dataset: DatasetRule


_TABLES: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("populations", "population", _Population),
    ("datasets", "dataset", _Dataset),
)
_OWN_KEY = re.compile(r"^: (?=[a-z_.]+: )")
"""Rules over several keys of a table begin with the key to change."""


def load_policy(path: Path) -> SitePolicy:
    """Read and check a policy file.

    Raises:
        PolicyFileError: it cannot be read, is no TOML, or breaks a rule.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PolicyFileError(
            f"{path}: there is no such file. Without a policy nothing trains; start from the one that "
            "`vestry-site init` writes"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyFileError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    try:
        return parse_policy(text)
    except PolicyFileError as error:
        raise PolicyFileError(f"{path}: {error}") from None


def parse_policy(text: str) -> SitePolicy:
    """Read and check a policy from TOML text.

    Raises:
        PolicyFileError: the text is no TOML (with the line), or breaks a rule.
    """
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyFileError(f"this is no TOML: {error}") from None
    problems = list(_problems(plain))
    if len(problems) == 1:
        raise PolicyFileError(problems[0])
    if problems:
        raise PolicyFileError(f"{len(problems)} problems\n" + "\n".join(f"  {line}" for line in problems))
    return SitePolicy.model_validate_json(_json(plain))


def _json(plain: object) -> str:
    # TOML has dates and JSON has none; pydantic reads a day's ISO text from JSON in strict mode too.
    return json.dumps(plain, default=str)


def _problems(plain: dict[str, Any]) -> Iterator[str]:
    """Findings of each table under its own name, then of the rest, then of how they fit together."""
    rest = dict(plain)
    found = False
    for key, single, model in _TABLES:
        tables = plain.get(key)
        if not isinstance(tables, dict):
            continue
        rest.pop(key)
        for name, table in tables.items():
            for line in _findings({single: table}, model):
                found = True
                yield f"{key}.{name}" + _OWN_KEY.sub(".", line.removeprefix(single))
    for line in _findings(rest, SitePolicy):
        found = True
        yield line
    if not found:
        yield from _findings(plain, SitePolicy)


def _findings(plain: dict[str, Any], model: type[BaseModel]) -> list[str]:
    try:
        model.model_validate_json(_json(plain))
    except ValidationError as error:
        text = explain_validation(error, model).replace(
            ".[key]: ", ": "
        )  # pydantic's place of a table's name
        lines = text.split("\n")
        return lines if len(lines) == 1 else [line.strip() for line in lines[1:]]
    return []
