"""The coordinator's part of differential privacy: the noise that it adds, and the epsilon that it shows.

The guarantee that a person's own site gives needs neither: it holds whatever the coordinator does.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from vestry_privacy.accounting import AccountingError, epsilon, parse_event
from vestry_privacy.noise import NoiseSource, SecureStream, SimulationStream, add_gaussian
from vestry_strategies.private_plan import site_level_plan
from vestry_strategies.seeds import derive_seed
from vestry_strategies.strategy import Mean
from vestry_strategies.study import StudySpec

__all__ = ["server_noise", "spent_epsilon", "update_limit"]


def update_limit(study: StudySpec) -> tuple[float, str]:
    """The largest L2 norm of a usable update, and the study's key that says so.

    Guarantees:
        Where the server adds the noise for whole sites, no update above their clipping norm is used: the
        noise is scaled to it, and a site that does not clip would go uncovered.
    """
    most, spec = study.aggregation.max_update_norm, study.privacy.site if study.privacy is not None else None
    if spec is not None and spec.noise_at == "server" and spec.clip < most:
        return spec.clip, "privacy.site.clip"
    return most, "aggregation.max_update_norm"


def server_noise(
    study: StudySpec, mean: Mean, share: float, round_number: int, rounding: float = 0.0
) -> Mean:
    """The mean update under a site-level guarantee whose noise the server adds; else the mean as it is.

    Args:
        study: says whether, and how much.
        mean: (d + k,) weighted mean of updates that the sites clipped to C.
        share: of one site in it at most, max(w) / sum(w); of public constants.
        round_number: from 1.
        rounding: rho, by which a secure sum's rounding may lengthen one site's update.

    Guarantees:
        One site moves the mean by at most (C + rho) share, and the noise is scaled to that. It protects
        against whoever sees the models, not against the coordinator.
    """
    plan = site_level_plan(study)
    spec = study.privacy.site if study.privacy is not None else None
    if plan is None or spec is None or spec.noise_at != "server":
        return mean
    source: NoiseSource = SecureStream()
    if plan.noise == "simulation":
        source = SimulationStream(derive_seed(study.seed, "server-noise", round_number))
    return add_gaussian(mean, (plan.clip + rounding) * share, plan.noise_multiplier, source)


def spent_epsilon(
    study: StudySpec, spent: Mapping[str, Sequence[str]], before: float | None = None
) -> float | None:
    """What the study has cost a training person so far, at the site where it cost most.

    Args:
        study: gives delta and adjacency.
        spent: site of this round -> events as it charged them, as JSON.
        before: the same of the round before, when other sites may have been asked.

    Returns:
        PLD epsilon; None without [privacy], or where no site has said anything that can be read.
    """
    privacy = study.privacy
    if privacy is None:
        return None
    known = {tuple(texts) for texts in spent.values() if texts}
    found = [] if before is None else [before]
    for texts in known:
        with suppress(AccountingError):  # a site's words; its own ledger is what counts
            events = [parse_event(text) for text in texts]
            found.append(epsilon(events, privacy.delta, "pld", privacy.adjacency))
    return max(found, default=None)
