"""Finding a task; a third party's code runs only where its name is allowed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulations.laboratory import environment
from tests.strategies.samples import MULTI_STUDY, image_study, make_study
from vestry_strategies.study import StudySpec, parse_study
from vestry_strategies.tasks.image import IMAGE
from vestry_strategies.tasks.registry import PluginError, find_task
from vestry_strategies.tasks.tabular import TABULAR

PLUGIN_STUDY = """
version = 1
[study]
name = "plugged"
purpose = "p"
initiator = "i"
[task]
kind = "plugin"
plugin = "toy"
[task.target]
name = "y"
type = "regression"
[model]
kind = "plugin"
[training]
rounds = 1
local_epochs = 1
learning_rate = 0.1
[aggregation]
secure = false
"""


def plugged(*changes: tuple[str, str]) -> StudySpec:
    text = PLUGIN_STUDY
    for old, new in changes:
        text = text.replace(old, new)
    return parse_study(text)


def install(folder: Path, code: str, entry: str = "toy = toy_task:TASK", name: str = "toy") -> Path:
    """A distribution as pip would leave it."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vestry.tasks]\n{entry}\n")
    (folder / "toy_task.py").write_text(code)
    return folder


def run(folder: Path, allowed: str) -> "subprocess.CompletedProcess[str]":
    """Look for the plug-in in a process of its own."""
    program = (
        "import sys\nfrom vestry_strategies.study import parse_study\n"
        "from vestry_strategies.tasks.registry import PluginError, find_task\n"
        "try:\n"
        "    print(find_task(parse_study(sys.stdin.read()), sys.argv[1:]).name)\n"
        "except PluginError as error:\n"
        "    print('refused:', error)\n"
    )
    settings = environment()
    settings["PYTHONPATH"] = f"{folder}:{settings['PYTHONPATH']}"
    return subprocess.run(
        [sys.executable, "-c", program, *filter(None, [allowed])],
        input=PLUGIN_STUDY,
        env=settings,
        capture_output=True,
        text=True,
        check=True,
    )


GOOD = """
from dataclasses import replace
from pathlib import Path
Path(__file__).with_name("imported").touch()
from vestry_strategies.tasks.tabular import TABULAR
TASK = replace(TABULAR, name="toy")
"""


def test_built_in_tasks_are_found() -> None:
    assert find_task(make_study()) is TABULAR
    assert find_task(parse_study(MULTI_STUDY)) is TABULAR
    assert find_task(image_study()) is IMAGE


def test_a_plug_in_that_is_not_allowed_is_never_imported(tmp_path: Path) -> None:
    install(tmp_path, GOOD)
    said = run(tmp_path, allowed="other").stdout
    assert "'toy' is not on the list of allowed plug-ins" in said
    assert "--allow-plugin toy" in said
    assert not (tmp_path / "imported").exists()


def test_a_plug_in_that_is_allowed_is_used(tmp_path: Path) -> None:
    install(tmp_path, GOOD)
    assert run(tmp_path, allowed="toy").stdout == "toy\n"
    assert (tmp_path / "imported").exists()


def test_a_plug_in_that_is_not_installed_is_said() -> None:
    with pytest.raises(PluginError, match=r"exactly one installed package .* found: none"):
        find_task(plugged(), ["toy"])


def test_two_packages_cannot_offer_one_name(tmp_path: Path) -> None:
    install(tmp_path, GOOD)
    install(tmp_path, GOOD, name="evil")
    said = run(tmp_path, allowed="toy").stdout
    assert "exactly one installed package" in said
    assert "evil" in said
    assert not (tmp_path / "imported").exists()


def test_what_is_no_task_is_refused(tmp_path: Path) -> None:
    install(tmp_path, "TASK = 3")
    assert "'toy' is a int, not a Task" in run(tmp_path, allowed="toy").stdout


def test_a_metric_must_be_the_plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, GOOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    study = plugged(("[aggregation]", '[evaluation]\nmetrics = ["rmse", "deviance"]\n[aggregation]'))
    with pytest.raises(PluginError, match="has no metric 'deviance'; use one of loss, mse"):
        find_task(study, ["toy"])
    sys.modules.pop("toy_task", None)
