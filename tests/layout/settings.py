"""One list of import roots in four tools, and nothing in a file that ties it to one machine."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.layout.tree import PACKAGES, Tree

__all__ = ["import_roots", "machine_paths", "repository_files"]

SKIPPED = frozenset({"__pycache__", "build", "dist", "htmlcov", "runs"})

# The patterns are written so that they do not find themselves.
MACHINE = re.compile(
    r"(?<![\w.~/-])/(?:work|root|home/\w+|Users/\w+)(?![\w-])"
    r"|\b(?:pypi|pythonhosted|npmjs|rubygems|crates)\.(?:org|com|io)\b"
    r"|\b(?:deb\.debian|archive\.ubuntu|download\.pytorch|proxy\.golang)\.(?:org|com)\b"
)


def import_roots(tree: Tree) -> Iterator[str]:
    """hatch, pytest, mypy and ruff name the same five roots, the wheel the packages in them."""
    settings = tomllib.loads((tree.root / "pyproject.toml").read_text(encoding="utf-8"))
    tool: dict[str, Any] = settings["tool"]
    build = tool["hatch"]["build"]
    packages = [f"{root}/{package}" for root, package in PACKAGES.items()]
    expected: dict[str, tuple[list[str], list[str]]] = {
        "tool.hatch.build.dev-mode-dirs": (build["dev-mode-dirs"], list(PACKAGES)),
        "tool.hatch.build.targets.wheel.packages": (
            build["targets"]["wheel"]["packages"],
            packages,
        ),
        "tool.pytest.ini_options.pythonpath": (
            tool["pytest"]["ini_options"]["pythonpath"],
            list(PACKAGES),
        ),
        "tool.mypy.mypy_path": (tool["mypy"]["mypy_path"], list(PACKAGES)),
        "tool.ruff.src": (tool["ruff"]["src"], list(PACKAGES)),
        "tool.coverage.run.source_pkgs": (
            tool["coverage"]["run"]["source_pkgs"],
            list(PACKAGES.values()),
        ),
    }
    for key, (found, right) in expected.items():
        if found != right:
            yield f"pyproject.toml: {key} is {found}, not {right}"


def machine_paths(tree: Tree) -> Iterator[str]:
    """No path of somebody's machine and no host of a package registry, in any text file."""
    for path in repository_files(tree.root):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or an archive
        for number, line in enumerate(text.splitlines(), start=1):
            for match in MACHINE.finditer(line):
                yield f"{path.relative_to(tree.root).as_posix()}:{number}: {match[0]}"


def repository_files(root: Path) -> list[Path]:
    """The files that git tracks or would track; without git, all but caches and hidden folders."""
    if (root / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
        names = [name for name in listed.stdout.split("\0") if name]
        return sorted(path for name in names if (path := root / name).is_file())
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and not any(map(_is_skipped, path.relative_to(root).parts[:-1]))
    )


def _is_skipped(folder: str) -> bool:
    return folder in SKIPPED or (folder.startswith(".") and folder != ".ci")
