"""From a study's section [privacy] to the privacy plan of a site: the only place where the two meet.

Both sides make the plan from the study alone and the site's public number of persons, so no side takes a
noise multiplier from the other. One plan covers the whole study: T = rounds x local steps.
"""

from dataclasses import replace
from functools import lru_cache

from vestry_privacy.plan import PlanError, PrivacyPlan, calibrate
from vestry_privacy.sampling import least_cap
from vestry_strategies.recipe import PrivacySpec, SiteGuaranteeSpec
from vestry_strategies.schema import PluginTask
from vestry_strategies.study import StudySpec

__all__ = ["evaluation_rounds", "releases_statistics", "site_level_plan", "study_plan", "total_steps"]

_SITES = 1  # unit = "site": one unit at each site


def releases_statistics(study: StudySpec) -> bool:
    """Do sums over the training persons leave in round 0?"""
    if isinstance(study.task, PluginTask):
        return True  # only the plug-in knows; charging a release that is empty is safe
    return study.task.standardise == "shared"


def evaluation_rounds(study: StudySpec) -> int:
    """Number of rounds after which noised metrics leave, over the whole study."""
    if study.privacy is None or not study.privacy.metrics:
        return 0
    rounds, every = study.training.rounds, study.evaluation.every
    return rounds // every + (rounds % every > 0)


def total_steps(study: StudySpec) -> int:
    """T: local steps of one site over all rounds; of unit 'site' one a round."""
    if study.privacy is not None and study.privacy.unit == "site":
        return study.training.rounds
    return study.training.rounds * (study.training.local_steps or 1)


def study_plan(study: StudySpec, persons: int | None) -> PrivacyPlan:
    """The plan of a study at a site.

    Args:
        study: with a section [privacy].
        persons: public number of persons at the site; None where it is not published.

    Returns:
        The plan, its noise calibrated to the study's epsilon, or as the study says.

    Raises:
        PlanError: the study's parameters protect nobody here, or no noise meets them.
        ValueError: the study has no section [privacy].
    """
    spec = study.privacy
    if spec is None:
        raise ValueError("privacy=None: the study has no section [privacy]")
    if spec.unit == "site":
        return _site_unit(spec, total_steps(study))
    q = spec.sampling_probability or 1.0
    batch = spec.expected_batch
    if batch is None:
        if persons is None:
            raise PlanError("expected_batch", "is needed where the number of persons is not public")
        batch = max(1.0, q * persons * (1 - (study.evaluation.holdout.fraction or 0.0)))
    public = persons if spec.adjacency == "zero-out" else None
    truncated = spec.sampling == "truncated_poisson"
    plan = PrivacyPlan(
        unit=spec.unit,
        unit_column=spec.unit_column,
        adjacency=spec.adjacency,
        persons=public,
        delta=spec.delta,
        noise_multiplier=spec.noise_multiplier or 1.0,
        sampling=spec.sampling,
        sampling_probability=q,
        cap=least_cap(public, q) if truncated and public else None,
        expected_batch=batch,
        steps=total_steps(study),
        clip=spec.clip,
        max_records=spec.max_records,
        noise=spec.noise,
    )
    # Without a cap the noise does not depend on the number of persons: one calibration serves all sites.
    shape = replace(plan, expected_batch=1.0, persons=public if truncated or public is None else 1)
    found = _calibrated(
        shape, spec.epsilon, releases_statistics(study), evaluation_rounds(study), spec.statistics_share
    )
    return replace(plan, noise_multiplier=found.noise_multiplier, releases=found.releases)


@lru_cache(maxsize=256)
def _calibrated(
    plan: PrivacyPlan, target: float | None, statistics: bool, evaluations: int, share: float
) -> PrivacyPlan:
    return calibrate(
        plan,
        target_epsilon=target,
        statistics=int(statistics),
        evaluations=evaluations,
        statistics_share=share,
    )


def _site_unit(spec: PrivacySpec | SiteGuaranteeSpec, rounds: int) -> PrivacyPlan:
    """A whole site as the unit: everybody is in, once a round (the coordinator knows the cohort)."""
    noise = spec.noise if isinstance(spec, PrivacySpec) else "cryptographic"
    plan = PrivacyPlan(
        unit="site",
        adjacency="zero-out",
        persons=_SITES,
        delta=spec.delta,
        noise_multiplier=spec.noise_multiplier or 1.0,
        sampling="full_batch",
        sampling_probability=1.0,
        expected_batch=1.0,
        steps=rounds,
        clip=spec.clip,
        noise=noise,
    )
    return calibrate(plan, target_epsilon=spec.epsilon)


def site_level_plan(study: StudySpec) -> PrivacyPlan | None:
    """The plan of the second guarantee, for whole sites; None where the study asks for none.

    Guarantees:
        With noise at the server the plan's epsilon holds against whoever sees only the global models: the
        noise is scaled to the largest share of one site in the mean.
    """
    if study.privacy is None or study.privacy.site is None:
        return None
    return _cached_site_plan(study.privacy.site, study.training.rounds, study.privacy.noise)


@lru_cache(maxsize=64)
def _cached_site_plan(spec: SiteGuaranteeSpec, rounds: int, noise: str) -> PrivacyPlan:
    plan = _site_unit(spec, rounds)
    return replace(plan, noise="simulation") if noise == "simulation" else plan
