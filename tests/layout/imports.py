"""Who may import whom (docs/adr/0001), read off the syntax trees.

Imports inside functions, under ``TYPE_CHECKING`` and through ``import_module("...")`` count too.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from tests.layout.tree import PACKAGES, Source, Tree

__all__ = [
    "TORCH_ANYWHERE",
    "Import",
    "arrows",
    "flwr_imports",
    "folder_cycles",
    "imports_of",
    "torch_in_privacy",
]

MAY_IMPORT: dict[str, frozenset[str]] = {
    "privacy": frozenset(),
    "strategies": frozenset({"privacy"}),
    "server": frozenset({"privacy", "strategies"}),
    "client": frozenset({"privacy", "strategies"}),
    "simulations": frozenset({"privacy", "strategies", "server", "client"}),
}
"""Folder -> the others that it may import."""

FLWR_PUBLIC = ("flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.simulation")
FLWR_ADAPTERS = frozenset(
    {
        "server/vestry_server/flower.py",
        "client/vestry_client/flower.py",
        "simulations/vestry_simulations/flower_secagg.py",  # measures what Flower itself does
    }
)
TORCH_ANYWHERE = frozenset({"auditing", "clipping", "coupling", "dpsgd", "gradients", "kernels"})
TORCH_IN_FUNCTIONS = frozenset({"accounting", "noise"})
_FOLDER_OF = {package: folder for folder, package in PACKAGES.items()}


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        line: where.
        module: dotted, such as ``vestry_privacy.errors``.
        name: of ``from module import name``; None for ``import module``.
        in_function: it runs only when a function is called.
        type_only: it stands under ``if TYPE_CHECKING``.
    """

    line: int
    module: str
    name: str | None
    in_function: bool
    type_only: bool

    @property
    def top(self) -> str:
        """First part of the module's name."""
        return self.module.partition(".")[0]


def imports_of(source: Source) -> Iterator[Import]:
    """Every import of a file, in the order of the text."""
    yield from _walk(source.tree, in_function=False, type_only=False)


def _walk(node: ast.AST, *, in_function: bool, type_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        typing = type_only or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for module, name in _imported(child):
            yield Import(getattr(child, "lineno", 0), module, name, inside, typing)
        yield from _walk(child, in_function=inside, type_only=typing)


def _imported(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, None
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield "." * node.level + (node.module or ""), alias.name
    elif isinstance(node, ast.Call) and node.args:
        function = node.func
        called = function.attr if isinstance(function, ast.Attribute) else None
        called = function.id if isinstance(function, ast.Name) else called
        if called in {"import_module", "__import__"}:
            yield _text_start(node.args[0]).rstrip("."), None


def _text_start(node: ast.expr) -> str:
    """The constant start of a text: all of a literal, or what an f-string begins with."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def arrows(tree: Tree) -> Iterator[str]:
    """Privacy <- strategies <- server | client <- simulations, and no relative imports."""
    for source in tree.packages:
        here = source.path.parts[0]
        for found in imports_of(source):
            there = _FOLDER_OF.get(found.top)
            if found.module.startswith("."):
                yield source.at(found.line, "relative import; write the package's name")
            elif found.top in {"tests", "benchmarks", "examples"}:
                yield source.at(found.line, f"a package must not import {found.top}/")
            elif there is not None and there != here and there not in MAY_IMPORT[here]:
                allowed = ", ".join(sorted(MAY_IMPORT[here])) or "none of ours"
                yield source.at(found.line, f"{here} imports {there}; it may import {allowed}")


def flwr_imports(tree: Tree) -> Iterator[str]:
    """No flwr in privacy; flwr's internals only in the two adapter modules."""
    for source in tree.packages:
        for found in imports_of(source):
            if found.top != "flwr":
                continue
            module = f"flwr.{found.name or ''}" if found.module == "flwr" else found.module
            public = any(module == name or module.startswith(f"{name}.") for name in FLWR_PUBLIC)
            if source.path.parts[0] == "privacy":
                yield source.at(found.line, f"privacy imports {module}; it may import no flwr")
            elif not public and str(source.path) not in FLWR_ADAPTERS:
                yield source.at(
                    found.line,
                    f"{module} is internal to flwr; only {' and '.join(sorted(FLWR_ADAPTERS))} "
                    f"may import it, others {', '.join(FLWR_PUBLIC)}",
                )


def torch_in_privacy(tree: Tree) -> Iterator[str]:
    """Torch and Opacus only where gradients are at hand: ledger and protocol stay light."""
    for source in tree.packages:
        if source.path.parts[0] != "privacy" or source.path.stem in TORCH_ANYWHERE:
            continue
        for found in imports_of(source):
            if found.top not in {"torch", "opacus"}:
                continue
            if source.path.stem not in TORCH_IN_FUNCTIONS:
                modules = ", ".join(sorted(TORCH_ANYWHERE | TORCH_IN_FUNCTIONS))
                yield source.at(found.line, f"{found.top} in privacy is for {modules}")
            elif not found.in_function and not found.type_only:
                yield source.at(found.line, f"{found.top} must be imported inside a function here")


def folder_cycles(tree: Tree) -> Iterator[str]:
    """No two folders may import each other, directly or through others."""
    sources = {source.module: source for source in tree.packages}
    examples: dict[tuple[str, str], str] = {}
    for source in tree.packages:
        for found in imports_of(source):
            target = sources.get(f"{found.module}.{found.name}") or sources.get(found.module)
            if target is not None and target.folder != source.folder:
                edge = (source.folder, target.folder)
                examples.setdefault(edge, source.at(found.line, f"imports {target.module}"))
    reach = _reachable(set(examples))
    for (start, end), example in sorted(examples.items()):
        if start in reach.get(end, ()):
            yield f"{example}, and {end} imports {start}: a cycle of folders"


def _reachable(edges: set[tuple[str, str]]) -> dict[str, set[str]]:
    """Folder -> every folder that it imports, directly or through others."""
    reach: dict[str, set[str]] = {}
    for start, end in edges:
        reach.setdefault(start, set()).add(end)
    grown = True
    while grown:
        grown = False
        for ends in reach.values():
            further = set().union(*(reach.get(end, ()) for end in ends)) - ends
            grown = grown or bool(further)
            ends |= further
    return reach
