"""From a study to its task. A third party's code is imported only where its name is allowed.

VestryError
└── PluginError     the plug-in is not allowed here, not installed, or is no task
"""

from collections.abc import Collection
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from vestry_privacy.errors import VestryError
from vestry_strategies.schema import ImageTask, PluginTask
from vestry_strategies.task import Task

if TYPE_CHECKING:
    from vestry_strategies.study import StudySpec

__all__ = ["ENTRY_POINT_GROUP", "PluginError", "find_task"]

ENTRY_POINT_GROUP = "vestry.tasks"
"""Entry-point group in which an installed package declares its tasks."""


class PluginError(VestryError):
    """A plug-in cannot be used."""


def find_task(study: "StudySpec", allowed_plugins: Collection[str] = ()) -> Task:
    """The functions of the study's task.

    Args:
        study: names the task.
        allowed_plugins: names of plug-ins that may be imported here; none by default.

    Raises:
        PluginError: the plug-in is not allowed, not installed, installed twice, or is no Task; or a
            metric that the study names is none of its own.

    Guarantees:
        No code of a plug-in runs before its name was found in ``allowed_plugins``.
    """
    if isinstance(study.task, PluginTask):
        task = _load_plugin(study.task.plugin, allowed_plugins)
        _check_metrics(study, task)
        return task
    if isinstance(study.task, ImageTask):
        from vestry_strategies.tasks.image import IMAGE

        return IMAGE
    from vestry_strategies.tasks.tabular import TABULAR

    return TABULAR


def _load_plugin(name: str, allowed: Collection[str]) -> Task:
    if name not in allowed:
        raise PluginError(
            f"task.plugin: '{name}' is not on the list of allowed plug-ins; "
            f"allow it with --allow-plugin {name} if you trust the package it comes from"
        )
    found = list(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if len(found) != 1:
        packages = ", ".join(str(point.dist and point.dist.name) for point in found) or "none"
        raise PluginError(
            f"task.plugin: '{name}' must be declared by exactly one installed package in the "
            f"entry-point group '{ENTRY_POINT_GROUP}'; found: {packages}"
        )
    task = found[0].load()
    if not isinstance(task, Task):
        raise PluginError(f"task.plugin: '{name}' is a {type(task).__name__}, not a Task")
    return task


def _check_metrics(study: "StudySpec", task: Task) -> None:
    known = task.metrics(study)
    released = study.privacy.metrics if study.privacy is not None else ()
    named = [*(study.evaluation.metrics or ()), study.evaluation.primary, *released]
    if study.early_stopping is not None:
        named.append(study.early_stopping.metric)
    for name in named:
        if name is not None and name not in known:
            raise PluginError(
                f"evaluation: plug-in '{task.name}' has no metric '{name}'; use one of {', '.join(known)}"
            )
