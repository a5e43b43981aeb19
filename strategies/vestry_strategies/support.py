"""What a study file may ask for and cannot have: refused before anything runs; and what it does without.

A strategy that must see each update is refused with secure aggregation as the study is read (rules.py).
"""

from vestry_privacy.secagg.plan import MAX_SITES, MIN_SITES
from vestry_strategies.study import StudyError, StudySpec

__all__ = ["check_supported", "insecure_choices"]


def check_supported(study: StudySpec) -> None:
    """Refuse a study that cannot run as it is written.

    Raises:
        StudyError: it aggregates securely over fewer sites than can hide one, or more than can add up.
    """
    rule = study.aggregation
    if not rule.secure:
        return
    lacking: list[str] = []
    if rule.min_sites > MAX_SITES:
        lacking.append(
            f"aggregation.min_sites: {rule.min_sites}; at most {MAX_SITES} sites can aggregate securely; "
            "lower it, or write secure = false: the coordinator then sees each site's own update"
        )
    if rule.cohort is not None and not MIN_SITES <= rule.cohort <= MAX_SITES:
        lacking.append(
            f"aggregation.cohort: {rule.cohort}; {MIN_SITES} to {MAX_SITES} sites can aggregate "
            "securely; change it, or write secure = false: the coordinator then sees each site's own update"
        )
    if lacking:
        raise StudyError("\n".join(lacking))


def insecure_choices(study: StudySpec) -> tuple[str, ...]:
    """The insecure choices of a study, to be stamped into every record of a run."""
    choices: list[str] = []
    if not study.aggregation.secure:
        choices.append("aggregation.secure = false: the coordinator sees each site's own update")
    privacy = study.privacy
    if privacy is None:
        choices.append("no [privacy]: nothing bounds what the model tells about a patient")
        return tuple(choices)
    if privacy.noise == "simulation":
        choices.append("privacy.noise = 'simulation': guarantee none, the noise can be foretold")
    if privacy.unit == "site":
        choices.append("privacy.unit = 'site': nothing bounds what the model tells about one patient")
    if privacy.site is not None and privacy.site.noise_at == "server":
        choices.append("privacy.site.noise_at = 'server': protects from recipients, not the coordinator")
    return tuple(choices)
