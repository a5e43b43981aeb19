"""The coordinator's part of differential privacy: the noise that it adds, and the epsilon that it shows.

The guarantee that a person's own site gives needs neither: it holds whatever the coordinator does.
"""

from collections.abc import Mapping, Sequence

from vestry_privacy.accounting import AccountingError, epsilon, parse_event
from vestry_privacy.noise import NoiseSource, SecureStream, SimulationStream, add_gaussian
from vestry_strategies.private_plan import site_level_plan
from vestry_strategies.seeds import derive_seed
from vestry_strategies.strategy import Mean
from vestry_strategies.study import StudySpec

__all__ = ["server_noise", "spent_epsilon"]


def server_noise(study: StudySpec, mean: Mean, weights: Sequence[float], round_number: int) -> Mean:
    """The mean update under a site-level guarantee whose noise the server adds; else the mean as it is.

    Args:
        study: says whether, and how much.
        mean: (d + k,) weighted mean of updates that the sites clipped to C.
        weights: of the sites in it; public constants.
        round_number: from 1.

    Guarantees:
        One site moves the mean by at most C max(w) / sum(w), and the noise is scaled to that. It protects
        against whoever sees the models, not against the coordinator.
    """
    plan = site_level_plan(study)
    spec = study.privacy.site if study.privacy is not None else None
    if plan is None or spec is None or spec.noise_at != "server":
        return mean
    source: NoiseSource = SecureStream()
    if plan.noise == "simulation":
        source = SimulationStream(derive_seed(study.seed, "server-noise", round_number))
    share = max(weights) / sum(weights)
    return add_gaussian(mean, plan.clip * share, plan.noise_multiplier, source)


def spent_epsilon(study: StudySpec, spent: Mapping[str, Sequence[str]]) -> float | None:
    """What the study has cost a training person so far, at the site where it cost most.

    Args:
        study: gives delta and adjacency.
        spent: site -> events as it charged them, as JSON.

    Returns:
        PLD epsilon; None without [privacy], or where a site says nothing that can be read.
    """
    privacy = study.privacy
    if privacy is None or not any(spent.values()):
        return None
    try:
        distinct = {tuple(parse_event(text) for text in events) for events in spent.values() if events}
        return max(epsilon(events, privacy.delta, "pld", privacy.adjacency) for events in distinct)
    except AccountingError:
        return None  # a site's words; its own ledger is what counts
