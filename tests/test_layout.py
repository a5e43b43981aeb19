"""The limits of the house style hold for this repository, and each rule can fail.

The rules are in ``tests/layout/``: functions from a tree of sources to findings.
"""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.layout.imports import TORCH_ANYWHERE, arrows, flwr_imports, folder_cycles, torch_in_privacy
from tests.layout.names import (
    docstrings,
    lines_of_test,
    mirrored_tests,
    module_names,
    public_names,
    readmes,
    unlisted_imports,
)
from tests.layout.settings import import_roots, machine_paths, repository_files
from tests.layout.shape import annotations, class_depths, file_lengths, function_lengths
from tests.layout.tree import PACKAGES, Tree, read_tree

ROOT = Path(__file__).parents[1]
RULES: tuple[Callable[[Tree], Iterator[str]], ...] = (
    annotations,
    arrows,
    class_depths,
    docstrings,
    file_lengths,
    flwr_imports,
    folder_cycles,
    function_lengths,
    import_roots,
    lines_of_test,
    machine_paths,
    mirrored_tests,
    module_names,
    public_names,
    readmes,
    torch_in_privacy,
    unlisted_imports,
)
LIGHT_MODULES = ("vestry_strategies.study", "vestry_simulations.cli")


@pytest.fixture(scope="module")
def repository() -> Tree:
    return read_tree(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_repository_keeps(rule: Callable[[Tree], Iterator[str]], repository: Tree) -> None:
    findings = list(rule(repository))
    assert not findings, "\n".join([f"{len(findings)} findings", *findings])


def test_study_and_command_line_load_neither_torch_nor_flwr(repository: Tree) -> None:
    """The console and `vestry study check` must start at once, and run where torch is not."""
    heavy = TORCH_ANYWHERE
    privacy = [
        source.module
        for source in repository.packages
        if source.path.parts[0] == "privacy" and source.path.stem not in heavy
    ]
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    loaded = {'torch', 'flwr', 'opacus'} & set(sys.modules)\n"
        "    assert not loaded, f'{name} loads {sorted(loaded)}'\n"
    )
    command = [sys.executable, "-c", program, *privacy, *LIGHT_MODULES]
    paths = ":".join(str(ROOT / folder) for folder in PACKAGES)
    environment = {"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_wheel_holds_the_five_packages_and_every_file_of_theirs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("vestry-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    own = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in own} <= set(PACKAGES.values())
    folders = [ROOT / folder / package for folder, package in PACKAGES.items()]
    expected = {
        path.relative_to(folder.parent).as_posix()
        for folder in folders
        for path in repository_files(ROOT)
        if path.is_relative_to(folder)
    }
    assert own == expected


# Each rule against a small tree that breaks it: files, and what the finding must say.

MODULE = '"""A module."""\n\n__all__: list[str] = []\n'
START = '"""A module."""\n\n'
STRATEGIES = "strategies/vestry_strategies"
LONG_BODY = "    print()\n" * 51
DEEP = "class A: ...\nclass B(A): ...\nclass C(B): ...\n"

BROKEN: list[tuple[Callable[[Tree], Iterator[str]], Mapping[str, str], str]] = [
    (arrows, {"privacy/vestry_privacy/a.py": "import vestry_strategies.study\n"}, "none of ours"),
    (arrows, {f"{STRATEGIES}/a.py": "from vestry_server import rounds\n"}, "imports server"),
    (arrows, {"server/vestry_server/a.py": "import vestry_client\n"}, "server imports client"),
    (arrows, {"client/vestry_client/a.py": "def f():\n  import vestry_server\n"}, "a.py:2"),
    (arrows, {"client/vestry_client/a.py": "import_module('vestry_server.x')\n"}, "imports server"),
    (arrows, {"client/vestry_client/a.py": "x.import_module(f'vestry_server.{n}')\n"}, "server"),
    (arrows, {"client/vestry_client/a.py": "from . import b\n"}, "relative import"),
    (arrows, {"client/vestry_client/a.py": "from tests.layout import tree\n"}, "tests/"),
    (flwr_imports, {"privacy/vestry_privacy/a.py": "from flwr.app import Message\n"}, "no flwr"),
    (flwr_imports, {"server/vestry_server/a.py": "from flwr.server import Grid\n"}, "internal"),
    (flwr_imports, {"server/vestry_server/a.py": "from flwr import server\n"}, "internal"),
    (flwr_imports, {"server/vestry_server/a.py": "import flwr\n"}, "internal"),
    (flwr_imports, {"client/vestry_client/a.py": "import flwr.application\n"}, "internal"),
    (torch_in_privacy, {"privacy/vestry_privacy/ledger.py": "import torch\n"}, "is for accounting"),
    (torch_in_privacy, {"privacy/vestry_privacy/noise.py": "import torch\n"}, "inside a function"),
    (
        folder_cycles,
        {
            f"{STRATEGIES}/a.py": "from vestry_strategies.tasks.b import x\n",
            f"{STRATEGIES}/tasks/b.py": "from vestry_strategies import a\n",
        },
        "a cycle of folders",
    ),
    (file_lengths, {"tests/test_a.py": "\n" * 401}, "401 lines"),
    (function_lengths, {f"{STRATEGIES}/a.py": f"def f():\n{LONG_BODY}"}, "f has 51 lines"),
    (class_depths, {f"{STRATEGIES}/a.py": DEEP}, "C stands 3"),
    (
        class_depths,
        {
            f"{STRATEGIES}/a.py": "class A(dict[str, int]): ...\nclass B(A): ...\n",
            f"{STRATEGIES}/b.py": "from vestry_strategies.a import B as Base\n"
            "import vestry_strategies.a\nclass C(vestry_strategies.a.B): ...\n",
        },
        "b.py:3",
    ),
    (
        class_depths,
        {f"{STRATEGIES}/a.py": DEEP.replace("class A", "class A(ValueError)") + "class D(C): ...\n"},
        "D stands 4",
    ),
    (annotations, {"tests/test_a.py": "def f(a: int, *b) -> int: ...\n"}, "no type for b"),
    (annotations, {"tests/test_a.py": "class A:\n  def f(self): ...\n"}, "its result"),
    (module_names, {f"{STRATEGIES}/utils.py": MODULE}, "'utils' hides"),
    (module_names, {"tests/helpers/a.py": MODULE}, "'helpers' hides"),
    (docstrings, {"benchmarks/a.py": "x = 1\n"}, "no module docstring"),
    (public_names, {f"{STRATEGIES}/a.py": START + "def f(): ...\n"}, "no __all__"),
    (public_names, {f"{STRATEGIES}/a.py": "__all__ = []\nclass A: ...\n"}, "A is public"),
    (public_names, {f"{STRATEGIES}/a.py": "__all__ = ['gone']\n"}, "lists gone"),
    (public_names, {f"{STRATEGIES}/a.py": "__all__ = names()\n"}, "no __all__ as a plain list"),
    (
        unlisted_imports,
        {
            f"{STRATEGIES}/a.py": "__all__ = ['b']\nb = c = 1\n",
            "client/vestry_client/a.py": "from vestry_strategies.a import b, c\n",
        },
        "c is not in __all__",
    ),
    (mirrored_tests, {f"{STRATEGIES}/tasks/a.py": MODULE}, "tests/strategies/tasks/test_a.py"),
    (lines_of_test, {f"{STRATEGIES}/a.py": MODULE, "tests/test_a.py": START}, "write 1 more"),
    (readmes, {"privacy/README.md": "\n" * 81}, "privacy/README.md: 81 lines"),
    (machine_paths, {"docs/a.md": "see /ro" + "ot/x\n"}, "docs/a.md:1"),
    (machine_paths, {"docs/a.md": "x\nhttps://pyp" + "i.org/simple\n"}, "docs/a.md:2"),
]

KEPT: list[tuple[Callable[[Tree], Iterator[str]], Mapping[str, str]]] = [
    (arrows, {"simulations/vestry_simulations/a.py": "import vestry_server, vestry_client\n"}),
    (arrows, {f"{STRATEGIES}/a.py": "from vestry_privacy.errors import VestryError\n"}),
    (flwr_imports, {"server/vestry_server/flower.py": "from flwr.server import Grid\n"}),
    (
        flwr_imports,
        {f"{STRATEGIES}/a.py": "from flwr import app\nimport flwr.serverapp.strategy\n"},
    ),
    (torch_in_privacy, {"privacy/vestry_privacy/dpsgd.py": "import torch\n"}),
    (torch_in_privacy, {"privacy/vestry_privacy/noise.py": "def f():\n  import torch\n"}),
    (
        folder_cycles,
        {
            f"{STRATEGIES}/a.py": "x = 1\n",
            f"{STRATEGIES}/tasks/b.py": "from vestry_strategies.a import x\n",
        },
    ),
    (file_lengths, {"tests/test_a.py": "\n" * 400}),
    (
        function_lengths,
        {
            "server/vestry_server/rounds.py": f"def run_round():\n{LONG_BODY}",
            f"{STRATEGIES}/a.py": 'def f():\n    """Text.\n\n    More."""\n' + LONG_BODY[:-12],
        },
    ),
    (class_depths, {f"{STRATEGIES}/a.py": DEEP.replace("class A", "class A(ValueError)")}),
    (annotations, {"tests/test_a.py": "class A:\n  def f(self, a: int, **b: int) -> None: ...\n"}),
    (
        public_names,
        {
            f"{STRATEGIES}/__init__.py": START,
            f"{STRATEGIES}/a.py": "__all__ = ['A', 'b']\ntry:\n  b: int = 1\nexcept E:\n  b = 2\n"
            "class A: ...\ndef _c(): ...\n",
            "server/vestry_server/migrations/versions/m.py": "def upgrade(): ...\n",
        },
    ),
    (
        mirrored_tests,
        {f"{STRATEGIES}/tasks/a.py": MODULE, "tests/strategies/tasks/test_a.py": START},
    ),
    (machine_paths, {"docs/a.md": "docs/work/plan.md, a/root/b, workflow, and/root-cause\n"}),
]


def plant(root: Path, files: Mapping[str, str]) -> Tree:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return read_tree(root)


@pytest.mark.parametrize(("rule", "files", "said"), BROKEN)
def test_rule_finds(
    rule: Callable[[Tree], Iterator[str]], files: Mapping[str, str], said: str, tmp_path: Path
) -> None:
    findings = list(rule(plant(tmp_path, files)))
    assert any(said in finding for finding in findings), findings


@pytest.mark.parametrize(("rule", "files"), KEPT)
def test_rule_lets_pass(
    rule: Callable[[Tree], Iterator[str]], files: Mapping[str, str], tmp_path: Path
) -> None:
    assert list(rule(plant(tmp_path, files))) == []


def test_import_roots_must_agree(tmp_path: Path) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    changed = text.replace('mypy_path = ["privacy", ', "mypy_path = [")
    assert changed != text
    findings = list(import_roots(plant(tmp_path, {"pyproject.toml": changed})))
    assert len(findings) == 1
    assert "tool.mypy.mypy_path" in findings[0]


def test_every_rule_is_seen_to_fail() -> None:
    seen = {rule for rule, _, _ in BROKEN} | {import_roots}
    assert seen == set(RULES)
