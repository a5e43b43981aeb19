"""Turn pydantic's findings into lines that name the key, the problem and the way out."""

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

__all__ = ["explain_validation"]

_TAGS = frozenset(
    {
        "tabular", "image", "plugin", "number", "boolean", "category",
        "logistic", "linear", "mlp", "cnn",
    }
)  # fmt: skip


def explain_validation(error: ValidationError, model: type[BaseModel]) -> str:
    """Explain why a file was refused.

    Args:
        error: what pydantic found.
        model: the class that was asked for, to suggest keys.

    Returns:
        One line for each finding: ``path.of.key: problem; what would be right``.
    """
    schema = model.model_json_schema()
    lines: list[str] = []
    for finding in error.errors(include_url=False):
        lines.extend(_lines(finding, schema))
    if len(lines) == 1:
        return lines[0]
    return f"{len(lines)} problems\n" + "\n".join(f"  {line}" for line in lines)


def _lines(finding: Any, schema: dict[str, Any]) -> Iterator[str]:
    path = _path(finding["loc"])
    kind: str = finding["type"]
    message: str = finding["msg"]
    if kind == "value_error":
        text = message.removeprefix("Value error, ")
        for line in text.split("\n"):
            yield f"{path}: {line}" if path else line
        return
    where = path or "the file"
    if kind == "extra_forbidden":
        yield f"{where}: there is no such key{_suggestion(finding['loc'], schema)}"
    elif kind == "missing":
        yield f"{where}: is required and missing{_hint(finding['loc'], schema)}"
    elif kind in {"union_tag_invalid", "union_tag_not_found"}:
        context = finding.get("ctx", {})
        key = str(context.get("discriminator", "'kind'")).strip("'")
        expected = context.get("expected_tags", "")
        said = f"'{context['tag']}' is unknown" if "tag" in context else "is required and missing"
        yield f"{where}.{key}: {said}" + (f"; use one of {expected}" if expected else "")
    elif kind == "json_invalid":
        yield "the text is no JSON"
    else:
        shown = finding.get("input")
        found = f" (found {shown!r})" if isinstance(shown, str | int | float | bool) else ""
        text = message.removeprefix("Input should be ")
        yield f"{where}: should be {text}{found}" if text != message else f"{where}: {text}{found}"


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for index, part in enumerate(location):
        if isinstance(part, int):
            path += f"[{part}]"
        elif part in _TAGS and index > 0:
            continue  # pydantic names the branch of a tagged union; the file has no such key
        else:
            path += f".{part}" if path else part
    return path


def _suggestion(location: tuple[int | str, ...], schema: dict[str, Any]) -> str:
    keys = sorted(_keys_at(location[:-1], schema))
    close = difflib.get_close_matches(str(location[-1]), keys, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known here: {', '.join(keys)}" if keys else ""


def _hint(location: tuple[int | str, ...], schema: dict[str, Any]) -> str:
    for node in _nodes_at(location, schema):
        values = node.get("enum") or ([node["const"]] if "const" in node else None)
        if values:
            return f"; one of {', '.join(map(str, values))}"
        if node.get("description"):
            return f"; {node['description'].rstrip('.')}"
        if node.get("type"):
            return f"; {node['type']}"
    return ""


def _keys_at(location: tuple[int | str, ...], schema: dict[str, Any]) -> set[str]:
    return {key for node in _nodes_at(location, schema) for key in node.get("properties", {})}


def _nodes_at(location: tuple[int | str, ...], schema: dict[str, Any]) -> list[dict[str, Any]]:
    nodes = _resolve(schema, schema)
    for part in location:
        if part in _TAGS:
            nodes = [
                node
                for node in nodes
                if part in {node.get("properties", {}).get(tag, {}).get("const") for tag in ("kind", "type")}
            ]
        elif isinstance(part, int):
            nodes = [n for node in nodes for n in _resolve(node.get("items", {}), schema)]
        else:
            nodes = [n for node in nodes for n in _resolve(node.get("properties", {}).get(part, {}), schema)]
    return nodes


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        target: dict[str, Any] = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        return _resolve(target, schema)
    for union in ("anyOf", "oneOf"):
        if union in node:
            return [n for part in node[union] for n in _resolve(part, schema)]
    return [node] if node else []
