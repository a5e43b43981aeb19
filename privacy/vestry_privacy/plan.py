"""The privacy plan of one study at one site: the only builder of sampler, clipper, noise and event.

One plan covers the whole study, all rounds and all local steps. Everything in it is public: nothing is
computed from data. Whoever trains gets a :class:`Mechanism` from it, whoever accounts its events, so
what was done and what is charged cannot drift apart.

    VestryError
    └── PlanError    parameters that protect nobody, contradict each other, or that no noise can meet

Symbols: sigma noise multiplier, q sampling probability, T steps, C clipping norm, B expected batch.
"""

import math
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from vestry_privacy.accounting import (
    AccountantName,
    AccountingError,
    Adjacency,
    Event,
    GaussianRelease,
    PoissonGaussian,
    TruncatedPoissonGaussian,
    epsilon,
    least_noise,
    noise_multiplier,
)
from vestry_privacy.errors import VestryError
from vestry_privacy.noise import NoiseSource, SecureStream, SimulationStream
from vestry_privacy.sampling import PoissonSampler, least_cap

__all__ = [
    "Mechanism",
    "NoiseKind",
    "Partition",
    "PlanError",
    "PrivacyPlan",
    "Release",
    "SamplingScheme",
    "Unit",
    "calibrate",
]

Unit = Literal["patient", "record", "site"]
SamplingScheme = Literal["poisson", "truncated_poisson", "full_batch"]
NoiseKind = Literal["cryptographic", "simulation"]
Partition = Literal["train", "holdout"]


class PlanError(VestryError):
    """A plan that protects nobody, contradicts itself, or cannot be met."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self._problem = field, problem
        super().__init__(f"privacy.{field}: {problem}")

    def __reduce__(self) -> tuple[type["PlanError"], tuple[str, str]]:
        """Else it could not come back from a worker process."""
        return PlanError, (self.field, self._problem)


@dataclass(frozen=True)
class Release:
    """Noised sums that leave beside the model.

    Attributes:
        name: ``statistics`` or ``evaluation``.
        partition: whose persons are in the sums.
        noise_multiplier: sigma over the bound of one person's part.
        count: how often in the whole study.
    """

    name: str
    partition: Partition
    noise_multiplier: float
    count: int


@dataclass(frozen=True)
class Mechanism:
    """What a trainer needs of a plan for one process.

    Attributes:
        sampler: draws the units of a step.
        slots: public number of places that the sampler draws from; None: as many as there are units.
        clip: C.
        noise_multiplier: sigma.
        normaliser: B, what a noised sum is divided by.
        max_records: of one unit in a step.
        source: of all randomness, the sampler's and the noise's.
    """

    sampler: PoissonSampler
    slots: int | None
    clip: float
    noise_multiplier: float
    normaliser: float
    max_records: int
    source: NoiseSource


@dataclass(frozen=True)
class PrivacyPlan:
    """Public parameters of a study's differential privacy at one site.

    Attributes:
        unit: who is protected.
        unit_column: names a unit's records; ``"row"``: each row is declared to be another person.
        adjacency: ``zero-out`` with a public number of persons, or ``add-remove`` without.
        persons: public number of persons; None only with ``add-remove``.
        delta: of the guarantee, below 1/persons.
        noise_multiplier: sigma of the steps.
        sampling: how the units of a step are drawn.
        sampling_probability: q.
        expected_batch: B.
        cap: most units in a step of ``truncated_poisson``.
        steps: T, over all rounds.
        clip: C.
        max_records: records of one unit used in a step.
        noise: where the noise comes from; ``simulation`` protects nobody.
        releases: what else leaves.
    """

    unit: Unit
    adjacency: Adjacency
    delta: float
    noise_multiplier: float
    sampling_probability: float
    expected_batch: float
    steps: int
    clip: float
    unit_column: str | None = None
    persons: int | None = None
    sampling: SamplingScheme = "poisson"
    cap: int | None = None
    max_records: int = 16
    noise: NoiseKind = "cryptographic"
    releases: tuple[Release, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what protects nobody.

        Raises:
            PlanError: names the field, the problem and the way out.
        """
        _check_names(self)
        _check_guarantee(self)
        _check_sampling(self)
        _check_releases(self)

    @property
    def guarantee(self) -> str:
        """``cryptographic``, or ``none`` where the noise can be foretold."""
        return "cryptographic" if self.noise == "cryptographic" else "none"

    def event(self, steps: int) -> Event:
        """What ``steps`` steps do, for an accountant."""
        sigma, q = self.noise_multiplier, self.sampling_probability
        if (
            self.cap is not None and self.persons is not None
        ):  # the sampler cuts if there is a cap, so this too
            return TruncatedPoissonGaussian(
                noise_multiplier=sigma,
                sampling_probability=q,
                cap=self.cap,
                persons=self.persons,
                count=steps,
            )
        return PoissonGaussian(noise_multiplier=sigma, sampling_probability=q, count=steps)

    def release_event(self, name: str, count: int = 1) -> Event:
        """What ``count`` releases of noised sums do.

        Raises:
            PlanError: the plan has no such release.
        """
        for release in self.releases:
            if release.name == name:
                return GaussianRelease(noise_multiplier=release.noise_multiplier, count=count)
        raise PlanError(name, "is no release of this plan: such values may not leave")

    def events(self, partition: Partition = "train", steps: int | None = None) -> tuple[Event, ...]:
        """Everything that touches a partition: the steps (all, or so many) and the releases."""
        releases = tuple(
            GaussianRelease(noise_multiplier=release.noise_multiplier, count=release.count)
            for release in self.releases
            if release.partition == partition
        )
        if partition == "holdout":
            return releases
        return (self.event(self.steps if steps is None else steps), *releases)

    def epsilon(self, accountant: AccountantName = "pld", steps: int | None = None) -> float:
        """Epsilon of a person in the worse of the two partitions, for the whole study or its first steps."""
        return max(
            epsilon(self.events(partition, steps), self.delta, accountant, self.adjacency)
            for partition in ("train", "holdout")
        )

    def mechanism(self, seed: int | None = None) -> Mechanism:
        """Sampler, clip and noise together.

        Args:
            seed: of the noise; only with ``noise = "simulation"``.

        Raises:
            ValueError: a seed for cryptographic noise, or none for simulated noise.
        """
        if (seed is not None) != (self.noise == "simulation"):
            raise ValueError(f"seed={seed} does not go with noise={self.noise}")
        source: NoiseSource = SecureStream() if seed is None else SimulationStream(seed)
        return Mechanism(
            sampler=PoissonSampler(self.sampling_probability, self.cap),
            slots=self.persons if self.adjacency == "zero-out" else None,
            clip=self.clip,
            noise_multiplier=self.noise_multiplier,
            normaliser=self.expected_batch,
            max_records=self.max_records,
            source=source,
        )

    def plain(self) -> dict[str, Any]:
        """As JSON values, for a record."""
        return asdict(self)


_NAMES: dict[str, Any] = {
    "unit": Unit,
    "adjacency": Adjacency,
    "sampling": SamplingScheme,
    "noise": NoiseKind,
}
_SHUFFLED = "shuffled batches may leak four times what Poisson sampling does (arXiv:2411.10614); "
_CLIPS = (1e-12, 1e12)


def _check_names(plan: PrivacyPlan) -> None:
    """What is not one of the known names must not fall through to some default."""
    for field, names in _NAMES.items():
        value, known = getattr(plan, field), get_args(names)
        if value not in known:
            why = _SHUFFLED if field == "sampling" else ""
            raise PlanError(field, f"'{value}' is unknown; {why}use one of {', '.join(known)}")


def _check_guarantee(plan: PrivacyPlan) -> None:
    if not 0 < plan.delta < 1:
        raise PlanError("delta", f"{plan.delta:g} must lie above 0 and below 1")
    if plan.persons is None and plan.adjacency == "zero-out":
        raise PlanError("adjacency", "'zero-out' needs a public number of persons; use 'add-remove'")
    if plan.persons is not None and plan.unit != "site":
        if plan.persons < 1:
            raise PlanError("persons", f"{plan.persons} must be at least 1")
        if plan.delta >= 1 / plan.persons:
            raise PlanError(
                "delta",
                f"{plan.delta:g} is not below 1/{plan.persons}: publishing one person's whole record would "
                f"satisfy it; use {0.1 / plan.persons:.0e} or less",
            )
    if not (plan.noise_multiplier > 0 and math.isfinite(plan.noise_multiplier)):
        raise PlanError("noise_multiplier", f"{plan.noise_multiplier} must be above 0")
    if not _CLIPS[0] <= plan.clip <= _CLIPS[1]:
        raise PlanError("clip", f"{plan.clip} must be above 0, from {_CLIPS[0]:g} to {_CLIPS[1]:g}")
    for field, number in (("max_records", plan.max_records), ("steps", plan.steps)):
        if number < 1:
            raise PlanError(field, f"{number} must be at least 1")
    if plan.unit == "patient" and not plan.unit_column:
        raise PlanError("unit_column", "unit = 'patient' needs the column that tells patients apart")


def _check_sampling(plan: PrivacyPlan) -> None:
    q = plan.sampling_probability
    if not 0 < q <= 1:
        raise PlanError("sampling_probability", f"{q:g} must lie above 0 and be at most 1")
    if not 0 < plan.expected_batch < math.inf:
        raise PlanError("expected_batch", f"{plan.expected_batch:g} must be above 0 and finite")
    if plan.sampling == "full_batch" and q != 1:
        raise PlanError("sampling", f"'full_batch' takes everybody; sampling_probability is {q:g}, not 1")
    if (plan.cap is not None) != (plan.sampling == "truncated_poisson"):
        raise PlanError("cap", "goes with sampling = 'truncated_poisson' and only with it")
    if plan.cap is None:
        return
    if plan.adjacency != "zero-out" or plan.persons is None:
        raise PlanError("sampling", "'truncated_poisson' needs adjacency = 'zero-out'; use 'poisson'")
    least = least_cap(plan.persons, q)
    if plan.cap < least:
        raise PlanError(
            "cap", f"{plan.cap} costs privacy at every step; use {least} (five deviations) or 'poisson'"
        )


def _check_releases(plan: PrivacyPlan) -> None:
    names = [release.name for release in plan.releases]
    if len(set(names)) != len(names):
        raise PlanError("releases", "two of the same name: what is charged would be the first")
    for release in plan.releases:
        sigma = release.noise_multiplier
        if not (0 < sigma < math.inf and release.count >= 1 and release.partition in get_args(Partition)):
            raise PlanError(
                f"releases.{release.name}",
                f"noise_multiplier={sigma}, count={release.count}, partition={release.partition}: need noise "
                "above 0, a count of at least 1 and a partition train or holdout",
            )


def calibrate(
    plan: PrivacyPlan,
    *,
    target_epsilon: float | None = None,
    statistics: int = 0,
    evaluations: int = 0,
    statistics_share: float = 0.1,
) -> PrivacyPlan:
    """Find the least noise that meets a target; the epsilon of a given noise is ``plan.epsilon()``.

    Args:
        plan: its ``noise_multiplier`` is replaced; its ``releases`` too.
        target_epsilon: for a person in either partition, over the whole study; None keeps the plan's noise.
        statistics: releases over the training persons (round 0).
        evaluations: releases over the held-out persons.
        statistics_share: of the target that the statistics may cost on their own.

    Returns:
        The plan whose PLD epsilon is at most the target.

    Raises:
        PlanError: no noise is enough, or the target is out of range.
    """
    if target_epsilon is not None and not 0 < target_epsilon < math.inf:
        raise PlanError("epsilon", f"{target_epsilon:g} must be above 0 and finite")
    if target_epsilon is None:
        sigma = plan.noise_multiplier
        return replace(plan, releases=_releases(statistics, evaluations, sigma, sigma))
    try:
        of_statistics = of_evaluations = 1.0
        if statistics:
            of_statistics = noise_multiplier(target_epsilon * statistics_share, plan.delta, 1.0, statistics)
        if evaluations:
            of_evaluations = noise_multiplier(target_epsilon, plan.delta, 1.0, evaluations)
        releases = _releases(statistics, evaluations, of_statistics, of_evaluations)
        plan = replace(plan, releases=releases)
        start = 1.0
        if not statistics:
            with suppress(AccountingError):  # only where to begin; RDP cannot reach a very small target
                start = noise_multiplier(
                    target_epsilon, plan.delta, plan.sampling_probability, plan.steps, "rdp", plan.adjacency
                )
        sigma = least_noise(
            lambda sigma: epsilon(
                replace(plan, noise_multiplier=sigma).events(), plan.delta, "pld", plan.adjacency
            ),
            target_epsilon,
            start,
        )
    except AccountingError as error:
        raise PlanError(
            "epsilon", f"no noise meets this plan ({error}); ask for a larger epsilon, or for fewer steps"
        ) from None
    return replace(plan, noise_multiplier=sigma)


def _releases(
    statistics: int, evaluations: int, of_statistics: float, of_evaluations: float
) -> tuple[Release, ...]:
    releases: list[Release] = []
    if statistics:
        releases.append(Release("statistics", "train", of_statistics, statistics))
    if evaluations:
        releases.append(Release("evaluation", "holdout", of_evaluations, evaluations))
    return tuple(releases)
