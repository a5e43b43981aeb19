"""How large a file, a function and a class tree may be, and that everything is annotated."""

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.layout.imports import imports_of
from tests.layout.tree import Source, Tree

__all__ = ["annotations", "class_depths", "file_lengths", "function_lengths"]

FILE_LINES = 400
FUNCTION_LINES = 50
LONGER_FUNCTIONS = {("server/vestry_server/rounds.py", "run_round"): 60}
CLASS_DEPTH = 2
EXCEPTION_DEPTH = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef


def file_lengths(tree: Tree) -> Iterator[str]:
    """No file of more than 400 lines, blank lines and comments included."""
    for source in tree.sources:
        lines = len(source.text.splitlines())
        if lines > FILE_LINES:
            yield source.at(lines, f"{lines} lines; at most {FILE_LINES}")


def function_lengths(tree: Tree) -> Iterator[str]:
    """No function whose body, its docstring left out, has more than 50 lines."""
    for source in tree.sources:
        for function in _functions(source):
            limit = LONGER_FUNCTIONS.get((str(source.path), function.name), FUNCTION_LINES)
            lines = _body_lines(function)
            if lines > limit:
                text = f"{function.name} has {lines} lines; at most {limit}"
                yield source.at(function.lineno, text)


def annotations(tree: Tree) -> Iterator[str]:
    """Every argument and every result has a type."""
    for source in tree.sources:
        for function in _functions(source):
            bare = [argument.arg for argument in _arguments(function) if not argument.annotation]
            if function.returns is None:
                bare.append("its result")
            if bare:
                text = f"{function.name}: no type for {', '.join(bare)}"
                yield source.at(function.lineno, text)


def _functions(source: Source) -> Iterator[Function]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _body_lines(function: Function) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    return (function.end_lineno or function.lineno) - body[0].lineno + 1


def _arguments(function: Function) -> Iterator[ast.arg]:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    if positional and positional[0].arg in {"self", "cls"}:
        positional = positional[1:]
    yield from (*positional, *given.kwonlyargs)
    yield from (argument for argument in (given.vararg, given.kwarg) if argument is not None)


@dataclass
class _Class:
    source: Source
    node: ast.ClassDef
    bases: list[str] = field(default_factory=list)  # dotted names, resolved


def class_depths(tree: Tree) -> Iterator[str]:
    """At most 2 classes of ours on top of each other; exceptions may have 3."""
    classes = _classes(tree)
    for name, found in classes.items():
        limit = EXCEPTION_DEPTH if _is_exception(name, classes) else CLASS_DEPTH
        depth = _depth(name, classes)
        if depth > limit:
            text = f"{found.node.name} stands {depth} classes deep; at most {limit}"
            yield found.source.at(found.node.lineno, text)


def _classes(tree: Tree) -> dict[str, _Class]:
    """Dotted name -> class, for every class of the tree."""
    classes: dict[str, _Class] = {}
    for source in tree.sources:
        known = {found.name: f"{found.module}.{found.name}" for found in imports_of(source) if found.name}
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                known[node.name] = f"{source.module}.{node.name}"
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                bases = [_resolve(base, known) for base in node.bases]
                classes[known[node.name]] = _Class(source, node, bases)
    return classes


def _resolve(base: ast.expr, known: dict[str, str]) -> str:
    if isinstance(base, ast.Subscript):
        base = base.value
    text = ast.unparse(base)
    first, dot, rest = text.partition(".")
    return known.get(first, first) + dot + rest


def _depth(name: str, classes: dict[str, _Class]) -> int:
    return 1 + max((_depth(base, classes) for base in classes[name].bases if base in classes), default=0)


def _is_exception(name: str, classes: dict[str, _Class]) -> bool:
    if name in classes:
        return any(_is_exception(base, classes) for base in classes[name].bases)
    builtin = getattr(builtins, name, None)
    return isinstance(builtin, type) and issubclass(builtin, BaseException)
