"""Round 0: sums over the sites give the shared preprocessing, and say who takes part."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vestry_server.run import NotEnoughSites, Run, too_few
from vestry_strategies.orders import Refusal, StatisticsOrder, StatisticsReply
from vestry_strategies.sums import Arrays, Sums, add_sums

__all__ = ["Statistics", "fit", "gather_statistics"]


@dataclass(frozen=True)
class Statistics:
    """What round 0 comes to.

    Attributes:
        sums: over the sites; empty where none leave.
        roster: sites that will be asked in later rounds.
        sites: those whose statistics are in the sums.
        left_out: site -> reason.
        examples: training examples; 0 where they are not counted.
        weight_limit: of secure sums: most that one site's weight may be; 0 without them.
    """

    sums: Sums
    roster: tuple[str, ...]
    sites: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    examples: int = 0
    weight_limit: int = 0


def gather_statistics(run: Run) -> Statistics:
    """Ask every site for its part; who has none takes no part in the study.

    Raises:
        NotEnoughSites: too few have.
    """
    study = run.study
    orders = dict.fromkeys(run.exchange.sites(), StatisticsOrder(study.to_json()))
    left_out = dict.fromkeys(orders, "no reply before the deadline")
    sums: dict[str, Arrays] = {}
    for reply in run.exchange.send(orders, study.aggregation.deadline_seconds):
        if isinstance(reply, StatisticsReply):
            sums[reply.site] = reply.sums
        elif isinstance(reply, Refusal):
            left_out[reply.site] = f"{reply.code}: {reply.message}"
    left_out = {site: reason for site, reason in sorted(left_out.items()) if site not in sums}
    if len(sums) < study.aggregation.min_sites:
        raise NotEnoughSites(too_few("round 0 (statistics)", len(sums), study, left_out))
    sites = tuple(sorted(sums))
    total = add_sums(sums[site] for site in sites)
    examples = int(total["examples"][0]) if "examples" in total else 0
    return Statistics(total, sites, sites, left_out, examples)


def fit(run: Run, total: Arrays) -> Arrays:
    """The shared preprocessing: of exact sums, or under [privacy] of noised ones."""
    features, privacy = run.task.features, run.study.privacy
    if privacy is None or features.fit_released is None:
        return features.fit(run.study, total)
    return features.fit_released(run.study, total)
