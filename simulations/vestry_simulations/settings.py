"""A study as a list of keys and values, for tables."""

import json
from collections.abc import Iterator

from vestry_strategies.study import StudySpec

__all__ = ["settings"]


def settings(study: StudySpec) -> list[tuple[str, str]]:
    """Every setting of a study, defaults included, with dotted keys."""
    return list(_settings("", study.canonical()))


def _settings(path: str, value: object) -> Iterator[tuple[str, str]]:
    """A list of tables gives a line each; a list of values is one value."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _settings(f"{path}.{key}" if path else key, part)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, part in enumerate(value):
            label = part.get("name", index)
            rest = {key: item for key, item in part.items() if key != "name"}
            yield f"{path}[{label}]", ", ".join(f"{key} = {_plain(item)}" for key, item in rest.items())
    else:
        yield path, _plain(value)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
