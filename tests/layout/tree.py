"""The repository as the layout rules see it: parsed sources, package files apart from the rest.

Every rule of this folder is a function from a :class:`Tree` to findings, lines such as
``client/vestry_client/app.py:3: ...``. No finding means the rule holds.
"""

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

__all__ = ["OTHER_FOLDERS", "PACKAGES", "Source", "Tree", "read_tree"]

PACKAGES = {
    "privacy": "vestry_privacy",
    "strategies": "vestry_strategies",
    "server": "vestry_server",
    "client": "vestry_client",
    "simulations": "vestry_simulations",
}
"""Import root -> the package in it."""

OTHER_FOLDERS = ("tests", "benchmarks", "examples")
"""Folders with Python that is not in the wheel."""


@dataclass(frozen=True)
class Source:
    """One Python file.

    Attributes:
        path: relative to the repository, such as ``privacy/vestry_privacy/errors.py``.
        text: its content.
    """

    path: PurePosixPath
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text, filename=str(self.path))

    @property
    def in_package(self) -> bool:
        """Does it belong to one of the five packages?"""
        return self.path.parts[0] in PACKAGES

    @property
    def is_migration(self) -> bool:
        """Is it a script that alembic runs by path, never imported by name?"""
        return "migrations" in self.path.parts

    @property
    def folder(self) -> str:
        """Dotted name of the folder, such as ``vestry_strategies.tasks``."""
        parts = self.path.parts[1:-1] if self.in_package else self.path.parts[:-1]
        return ".".join(parts)

    @property
    def module(self) -> str:
        """Dotted name by which it is imported."""
        return self.folder if self.path.stem == "__init__" else f"{self.folder}.{self.path.stem}"

    @property
    def lines(self) -> int:
        """Number of lines that are not blank."""
        return sum(1 for line in self.text.splitlines() if line.strip())

    def at(self, line: int, text: str) -> str:
        """A finding at a line of this file."""
        return f"{self.path}:{line}: {text}"


@dataclass(frozen=True)
class Tree:
    """All Python of the repository.

    Attributes:
        root: the repository.
        sources: in the order of their paths.
    """

    root: Path
    sources: tuple[Source, ...]

    @property
    def packages(self) -> tuple[Source, ...]:
        """The sources of the five packages."""
        return tuple(source for source in self.sources if source.in_package)

    @property
    def tests(self) -> tuple[Source, ...]:
        """The sources under ``tests/``."""
        return tuple(source for source in self.sources if source.path.parts[0] == "tests")


def read_tree(root: Path) -> Tree:
    """Read every Python file of a repository.

    Args:
        root: the folder that holds ``privacy/``, ``tests/`` and the others.
    """
    folders = [f"{folder}/{package}" for folder, package in PACKAGES.items()]
    sources = [
        Source(PurePosixPath(path.relative_to(root).as_posix()), path.read_text(encoding="utf-8"))
        for folder in (*folders, *OTHER_FOLDERS)
        for path in sorted((root / folder).rglob("*.py"))
    ]
    return Tree(root, tuple(sources))
