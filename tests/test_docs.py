"""The documentation agrees with the program: links, commands, options, studies, decisions."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest

from tests.layout.settings import repository_files
from tests.layout.tree import PACKAGES

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`(vestry(?:-site)? [^`]+)`")


@dataclass(frozen=True)
class Usage:
    """A command as some page shows it."""

    where: str
    words: tuple[str, ...]
    program: str = "vestry"


@cache
def pages() -> tuple[Path, ...]:
    return tuple(path for path in repository_files(ROOT) if path.suffix == ".md")


def fences(text: str, *languages: str) -> Iterator[str]:
    return (body for language, body in FENCE.findall(text) if language in languages)


def usages(name: str, text: str) -> Iterator[Usage]:
    """Every `vestry ...` of a page, in shell blocks and between backticks."""
    lines = [
        line.strip().removeprefix("$ ")
        for body in fences(text, "sh", "bash", "console")
        for line in body.replace("\\\n", " ").splitlines()
    ]
    inline = INLINE.findall(FENCE.sub("", text))
    for line in [*lines, *inline]:
        words = shlex.split(line, comments=True)
        while words and "=" in words[0] and not words[0].startswith("-"):
            words = words[1:]  # VARIABLE=value before the command
        program = words[0].rpartition("/")[2] if words else ""
        if program in {"vestry", "vestry-site"}:
            stop = next((i for i, w in enumerate(words) if w in {"|", ">", "&&", ";"}), None)
            yield Usage(f"{name}: {line}", tuple(words[1:stop]), program)


def command_line(program: str = "vestry") -> click.Command:
    from typer.main import get_command

    from vestry_client.cli import app as site
    from vestry_simulations.cli import app as laboratory

    return get_command(site if program == "vestry-site" else laboratory)


def wrong_usage(root: click.Command, usage: Usage) -> str | None:
    """What is wrong with a usage, or None. Operands are not looked at, only names and options."""
    command, path = root, usage.program
    options: set[str] = {"--help"}
    for word in usage.words:
        options |= {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        bare = word.strip("[]").partition("=")[0]
        if bare.startswith("-") and len(bare) > 1:
            if bare not in options:
                return f"{usage.where}: {path} has no option {bare}"
        elif isinstance(command, click.Group) and not bare.isupper():  # COMMAND is any of them
            if bare not in command.commands:
                return f"{usage.where}: {path} has no command {bare}"
            command, path = command.commands[bare], f"{path} {bare}"
    return None


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command that does something, hidden ones left out."""
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from leaves(child, (*path, name))
    elif not command.hidden:
        yield path


def slug(heading: str) -> str:
    """The anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_link(page: Path, target: str) -> str | None:
    if re.match(r"[a-z]+:", target):
        return None  # another site
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    if not path.exists():
        return f"{page.relative_to(ROOT)}: {target}: no such file"
    if anchor and path.suffix == ".md":
        headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        if anchor not in map(slug, headings):
            return f"{page.relative_to(ROOT)}: {target}: no such heading"
    return None


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_resolve(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [first or second for first, second in LINK.findall(text)]
    assert [found for target in targets if (found := broken_link(page, target))] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist(page: Path) -> None:
    name = str(page.relative_to(ROOT))
    shown = usages(name, page.read_text(encoding="utf-8"))
    wrong = [wrong_usage(command_line(usage.program), usage) for usage in shown]
    assert [found for found in wrong if found] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_toml_of_a_page_is_valid(page: Path) -> None:
    """Every TOML block parses; one with study, task and training is a whole study."""
    from vestry_strategies.study import parse_study

    for body in fences(page.read_text(encoding="utf-8"), "toml"):
        if {"study", "task", "training"} <= tomllib.loads(body).keys():
            parse_study(body)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_named_by_a_page_exist(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("folder", sorted(PACKAGES))
def test_readme_of_a_package_lists_its_modules(folder: str) -> None:
    """A table row for every module, and none for a module that is gone."""
    package = ROOT / folder / PACKAGES[folder]
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    kept = {name for name in modules if not name.startswith("migrations/")}
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([\w/]+\.py)`", row)}
    assert listed == {name for name in kept if not name.endswith("__init__.py")}


def studies() -> list[Path]:
    """Every study file of the repository."""
    return [
        path
        for path in repository_files(ROOT)
        if path.suffix == ".toml" and "[study]" in path.read_text(encoding="utf-8").splitlines()
    ]


@pytest.mark.parametrize("path", studies(), ids=lambda path: path.name)
def test_studies_of_the_repository_can_be_run(path: Path) -> None:
    from vestry_strategies.study import load_study
    from vestry_strategies.support import check_supported

    check_supported(load_study(path))


@pytest.mark.parametrize("program", ["vestry", "vestry-site"])
def test_every_command_is_documented(program: str) -> None:
    used = [usage for page in pages() for usage in usages(page.name, page.read_text(encoding="utf-8"))]
    shown = [usage.words for usage in used if usage.program == program]
    missing = [
        " ".join(path)
        for path in leaves(command_line(program))
        if not any(words[: len(path)] == path for words in shown)
    ]
    assert missing == []


def test_readme_shows_a_whole_study_that_can_be_run() -> None:
    from vestry_strategies.study import parse_study
    from vestry_strategies.support import check_supported

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (text,) = [body for body in fences(readme, "toml") if "[study]" in body]
    check_supported(parse_study(text))


def test_changelog_has_a_section_for_what_is_not_released() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]\n+### Added\n+- ", text, re.MULTILINE)


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    folder = ROOT / "docs" / "adr"
    names = sorted(path.name for path in folder.glob("*.md"))
    assert [name[:4] for name in names] == [f"{i:04}" for i in range(1, len(names) + 1)]
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for name in names:
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", name)
        text = (folder / name).read_text(encoding="utf-8")
        headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], name
        assert text.startswith(f"# {name[:4]} "), name
        assert f"adr/{name}" in index, name


@pytest.fixture
def program() -> click.Command:
    """A small command line: `vestry study check FILE --json`, `vestry demo`."""
    check = click.Command("check", params=[click.Option(["--json"]), click.Argument(["file"])])
    study = click.Group("study", commands={"check": check})
    return click.Group("vestry", commands={"study": study, "demo": click.Command("demo")})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("vestry study check FILE --json", None),
        ("vestry study check a.toml --help", None),
        ("LEVEL=1 .venv/bin/vestry demo | head", None),
        ("vestry", None),
        ("vestry COMMAND --help", None),
        ("vestry demo --fast", "vestry demo has no option --fast"),
        ("vestry study check FILE [--yaml=1]", "vestry study check has no option --yaml"),
        ("vestry study forget FILE", "vestry study has no command forget"),
        ("vestry fly", "vestry has no command fly"),
    ],
)
def test_wrong_usage_is_found(program: click.Command, line: str, said: str | None) -> None:
    page = f"Text.\n\n```sh\n$ {line}\n```\n"
    (usage,) = usages("a.md", page)
    found = wrong_usage(program, usage)
    assert found == (None if said is None else f"a.md: {line}: {said}")


def test_usages_are_found_between_backticks_and_over_two_lines() -> None:
    page = "Run `vestry demo`.\n\n```sh\nvestry simulate A \\\n  --by site # words\nls\n```\n"
    words = [usage.words for usage in usages("a.md", page)]
    assert words == [("simulate", "A", "--by", "site"), ("demo",)]


def test_leaves_are_the_commands_that_do_something(program: click.Command) -> None:
    assert list(leaves(program)) == [("study", "check"), ("demo",)]


def test_broken_links_are_found() -> None:
    page = ROOT / "README.md"
    assert broken_link(page, "LICENSE") is None
    assert broken_link(page, "https://flower.ai/") is None
    assert broken_link(page, "docs/nothing.md") == "README.md: docs/nothing.md: no such file"
    assert "no such heading" in (broken_link(page, "docs/glossary.md#nothing") or "")
    assert slug("What it is, and for whom") == "what-it-is-and-for-whom"
