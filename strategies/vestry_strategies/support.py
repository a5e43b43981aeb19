"""What a study file may ask for and this version cannot do yet: refused before anything runs.

The keys exist so that a study says what it wants and defaults stay safe; ignoring them would be worse
than refusing them.
"""

from vestry_strategies.study import StudyError, StudySpec

__all__ = ["check_supported", "insecure_choices"]


def check_supported(study: StudySpec) -> None:
    """Refuse a study that this version cannot run as it is written.

    Raises:
        StudyError: it asks for secure aggregation.
    """
    lacking: list[str] = []
    if study.aggregation.secure:
        lacking.append(
            "aggregation.secure: this version cannot aggregate securely yet; to run it so that the "
            "coordinator sees each site's own update, write secure = false"
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
