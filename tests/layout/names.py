"""What files, modules and public names are called, and that tests mirror the modules."""

import ast
from collections.abc import Iterator

from tests.layout.imports import imports_of
from tests.layout.tree import PACKAGES, Source, Tree

__all__ = [
    "docstrings",
    "lines_of_test",
    "mirrored_tests",
    "module_names",
    "public_names",
    "readmes",
    "unlisted_imports",
]

VAGUE = frozenset(
    {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
)  # fmt: skip
MIRRORED_SHARE = 0.9
README_LINES = 80
README_FOLDERS = (*PACKAGES, "tests", "docs", "benchmarks", "examples")


def module_names(tree: Tree) -> Iterator[str]:
    """No file or folder with a name that hides what is inside."""
    for source in tree.sources:
        vague = VAGUE.intersection((*source.path.parts[:-1], source.path.stem.strip("_")))
        for name in sorted(vague):
            yield source.at(1, f"'{name}' hides what is inside; name what it holds")


def docstrings(tree: Tree) -> Iterator[str]:
    """Every file says at its top what it is."""
    for source in tree.sources:
        if not (ast.get_docstring(source.tree) or "").strip():
            yield source.at(1, "no module docstring")


def public_names(tree: Tree) -> Iterator[str]:
    """Every public class and function is in ``__all__``, and nothing else that is missing."""
    for source in tree.packages:
        if source.is_migration or _is_docstring_only(source):
            continue
        listed = _listed(source)
        if listed is None:
            yield source.at(1, "no __all__ as a plain list of names")
            continue
        defined = _top_level(source)
        public = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        for name, node in defined.items():
            if isinstance(node, public) and not name.startswith("_") and name not in listed:
                yield source.at(node.lineno, f"{name} is public and not in __all__")
        for name in listed:
            if name not in defined:
                yield source.at(1, f"__all__ lists {name}, which is not there")


def unlisted_imports(tree: Tree) -> Iterator[str]:
    """A package imports from our other modules only what they list in ``__all__``."""
    sources = {source.module: source for source in tree.packages}
    for source in tree.packages:
        for found in imports_of(source):
            target = sources.get(found.module)
            if target is None or found.name is None or f"{found.module}.{found.name}" in sources:
                continue
            if found.name not in (_listed(target) or ()):
                yield source.at(found.line, f"{found.name} is not in __all__ of {target.path}")


def mirrored_tests(tree: Tree) -> Iterator[str]:
    """At least 90 % of the modules have a test of the same name in the same place."""
    present = {str(source.path) for source in tree.tests}
    modules = [
        source
        for source in tree.packages
        if not source.is_migration and source.path.stem not in {"__init__", "__main__"}
    ]
    missing = [f"{source.path} -> {test}" for source in modules if (test := _mirror(source)) not in present]
    if len(missing) > (1 - MIRRORED_SHARE) * len(modules):
        yield f"{len(missing)} of {len(modules)} modules have no test: {'; '.join(missing)}"


def lines_of_test(tree: Tree) -> Iterator[str]:
    """At least as many lines of test as of code, blank lines left out."""
    code = sum(source.lines for source in tree.packages)
    test = sum(source.lines for source in tree.tests)
    if test < code:
        yield f"{test} lines of test, {code} lines of code; write {code - test} more"


def readmes(tree: Tree) -> Iterator[str]:
    """Every top-level folder has a README.md of one page."""
    for folder in README_FOLDERS:
        path = tree.root / folder / "README.md"
        lines = len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 0
        if not 0 < lines <= README_LINES:
            yield f"{folder}/README.md: {lines} lines; one page is 1 to {README_LINES}"


def _mirror(source: Source) -> str:
    """``privacy/vestry_privacy/secagg/ring.py`` -> ``tests/privacy/secagg/test_ring.py``."""
    folder, _package, *inner, name = source.path.parts
    return "/".join(("tests", folder, *inner, f"test_{name}"))


def _is_docstring_only(source: Source) -> bool:
    return len(source.tree.body) == 1 and ast.get_docstring(source.tree) is not None


def _listed(source: Source) -> list[str] | None:
    for node in source.tree.body:
        if isinstance(node, ast.Assign) and "__all__" in [ast.unparse(to) for to in node.targets]:
            try:
                return [str(name) for name in ast.literal_eval(node.value)]
            except ValueError:
                return None
    return None


def _top_level(source: Source) -> dict[str, ast.stmt]:
    defined: dict[str, ast.stmt] = {}
    for node in _statements(source.tree.body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            defined.update({ast.unparse(target): node for target in node.targets})
        elif isinstance(node, ast.AnnAssign):
            defined[ast.unparse(node.target)] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined.update({alias.asname or alias.name: node for alias in node.names})
    return defined


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements, those under a top-level ``if`` or ``try`` included."""
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, ast.If | ast.Try):
                inner = getattr(node, part, [])
                yield from _statements([n for n in inner if isinstance(n, ast.stmt)])
