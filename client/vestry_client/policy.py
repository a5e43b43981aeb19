"""What a site allows. Everything is refused that is not allowed here.

VestryError
└── PolicyRefusal     a rule of this site forbids what was asked
"""

from pydantic import BaseModel, ConfigDict, Field

from vestry_privacy.errors import VestryError
from vestry_strategies.study import StudySpec

__all__ = ["PolicyRefusal", "SitePolicy"]


class PolicyRefusal(VestryError):
    """A rule of the site's policy forbids what was asked."""

    def __init__(self, rule: str, asked: object, allowed: object) -> None:
        self.rule = rule
        super().__init__(f"policy rule {rule}: asked {asked}, allowed {allowed}")


class SitePolicy(BaseModel):
    """The rules of one site."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    allow_individual_updates: bool = Field(
        default=False, description="May the coordinator see this site's own update?"
    )
    allow_training_without_privacy: bool = Field(
        default=False, description="May a study train without a [privacy] section?"
    )
    allowed_plugins: tuple[str, ...] = Field(
        default=(), description="Names of third-party tasks that may be imported."
    )
    allowed_initiators: tuple[str, ...] | None = Field(
        default=None, description="Who may ask; None allows everybody."
    )
    max_rounds: int | None = Field(default=None, ge=1, description="Most rounds of one study.")
    min_examples: int = Field(
        default=10, ge=1, description="Fewer training examples take no part in a study."
    )

    def check_study(self, study: StudySpec) -> None:
        """Refuse a study that breaks a rule.

        Raises:
            PolicyRefusal: names the rule, what was asked and what is allowed.
        """
        if not study.aggregation.secure and not self.allow_individual_updates:
            raise PolicyRefusal("allow_individual_updates", "aggregation.secure = false", False)
        if study.privacy is None and not self.allow_training_without_privacy:
            raise PolicyRefusal("allow_training_without_privacy", "no [privacy] section", False)
        initiators = self.allowed_initiators
        if initiators is not None and study.study.initiator not in initiators:
            raise PolicyRefusal("allowed_initiators", study.study.initiator, list(initiators))
        if self.max_rounds is not None and study.training.rounds > self.max_rounds:
            raise PolicyRefusal("max_rounds", study.training.rounds, self.max_rounds)

    def check_examples(self, examples: int) -> None:
        """Refuse to take part with too few training examples.

        Raises:
            PolicyRefusal: names the rule, not the number of examples.
        """
        if examples < self.min_examples:
            raise PolicyRefusal("min_examples", "fewer", self.min_examples)
