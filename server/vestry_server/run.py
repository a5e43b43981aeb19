"""What stays the same over the rounds of a run, and what can end one.

VestryError
└── RoundError               a round cannot finish
    ├── NotEnoughSites       too few usable updates, after all attempts
    ├── NoWeight             all weights are zero
    └── Diverged             the loss or the model is not finite
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from vestry_privacy.errors import VestryError
from vestry_server.checkpoint import RunState
from vestry_server.exchange import Exchange
from vestry_server.progress import Listener
from vestry_server.secure_run import SecureRun
from vestry_strategies.parameters import FlatModel, Layout, Vector
from vestry_strategies.seeds import derive_seed
from vestry_strategies.strategies import build_strategy
from vestry_strategies.strategy import Strategy
from vestry_strategies.study import StudyError, StudySpec
from vestry_strategies.support import check_supported
from vestry_strategies.task import Task
from vestry_strategies.tasks.registry import find_task

__all__ = [
    "ADVICE",
    "Diverged",
    "NoWeight",
    "NotEnoughSites",
    "RoundError",
    "Run",
    "diverging",
    "open_run",
    "too_few",
]


class RoundError(VestryError):
    """A round cannot finish. Earlier rounds are kept; the run can be resumed."""


class NotEnoughSites(RoundError):
    """Too few sites gave a usable reply."""


class NoWeight(RoundError):
    """All weights are zero."""


class Diverged(RoundError):
    """The loss or the model is not finite."""


ADVICE = (
    "lower training.learning_rate or the server's, and check the data for extreme values; "
    "the last good round is kept; start a new run with the changed study"
)

_DIVERGING = ("diverged", "its update is not finite", "its update has norm")


@dataclass(frozen=True)
class Run:
    """What stays the same over the rounds of a run.

    Attributes:
        study: the study.
        task: its functions.
        strategy: both halves.
        layout: of the global model.
        exchange: how sites are reached.
        save: called with the state after each round, before anybody is told of it.
        tell: called with what happens.
        secure: what secure sums need; None where each site's own update is seen.
    """

    study: StudySpec
    task: Task
    strategy: Strategy
    layout: Layout
    exchange: Exchange
    save: Callable[[RunState], None]
    tell: Listener
    secure: SecureRun | None = None

    @property
    def update_size(self) -> int:
        """d + k: length of an update with what the strategy adds to it."""
        return self.layout.size + self.strategy.extra(self.layout.trainable)


def open_run(
    study: StudySpec,
    exchange: Exchange,
    save: Callable[[RunState], None],
    tell: Listener,
    allowed_plugins: Collection[str] = (),
    secure: SecureRun | None = None,
) -> tuple[Run, Vector]:
    """Prepare a run.

    Args:
        study: the study.
        exchange: how sites are reached.
        save: called with the state after each round.
        tell: called with what happens.
        allowed_plugins: third-party tasks that may be imported.
        secure: the federation's directory and the coordinator's key, for a study that aggregates securely.

    Returns:
        The run, and the first global model, drawn from the study's seed.

    Raises:
        StudyError: this version cannot run the study, or cannot add up its sites securely.
        PluginError: the task is a plug-in that is not allowed here.
    """
    import torch

    check_supported(study)
    if study.aggregation.secure:
        if secure is None:
            raise StudyError(
                "aggregation.secure: this run has no directory of the sites' identities; give the "
                "coordinator one and its key, or write secure = false: it then sees each site's own update"
            )
        secure.check_study(study)
    task = find_task(study, allowed_plugins)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(study.seed, "model"))
        flat = FlatModel(task.build_model(study))
    strategy = build_strategy(study.strategy)
    used = secure if study.aggregation.secure else None
    return Run(study, task, strategy, flat.layout, exchange, save, tell, used), flat.read()


def too_few(what: str, usable: int, study: StudySpec, left_out: Mapping[str, str]) -> str:
    """Says that too few replies were usable, and why of each of the others."""
    reasons = "".join(f"\n  {site}: {reason}" for site, reason in left_out.items())
    return (
        f"{what}: {usable} sites gave a usable reply, aggregation.min_sites = "
        f"{study.aggregation.min_sites}{reasons}"
    )


def diverging(left_out: Mapping[str, str]) -> bool:
    """Does a site say that its training diverges? Another attempt would take the same steps."""
    return any(reason.startswith(_DIVERGING) for reason in left_out.values())
