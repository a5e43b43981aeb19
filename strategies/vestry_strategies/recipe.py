"""The sections of a study beside its task: model, training, strategy, aggregation, evaluation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vestry_strategies.schema import Section

__all__ = [
    "AggregationSpec",
    "CnnModel",
    "EarlyStoppingSpec",
    "EvaluationSpec",
    "HoldoutSpec",
    "LinearModel",
    "LogisticModel",
    "MlpModel",
    "ModelSpec",
    "PluginModel",
    "PrivacySpec",
    "ScheduleSpec",
    "SiteGuaranteeSpec",
    "StrategySpec",
    "StudySection",
    "TrainingSpec",
]

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class StudySection(Section):
    """Who asks for what."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Lower-case letters, digits and '-'.")
    purpose: str = Field(min_length=1, max_length=2000, description="Why, for the sites' stewards.")
    initiator: str = Field(min_length=1, max_length=200, description="Who answers for the study.")


class LogisticModel(Section):
    """Logistic regression: one linear layer (softmax for more than two classes)."""

    kind: Literal["logistic"]


class LinearModel(Section):
    """Linear regression: one linear layer."""

    kind: Literal["linear"]


class MlpModel(Section):
    """A multi-layer perceptron."""

    kind: Literal["mlp"]
    hidden: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field(default=(64,), min_length=1)
    activation: Literal["relu", "tanh"] = "relu"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    norm: Literal["none", "layer", "batch"] = "none"


class CnnModel(Section):
    """A small convolutional net: blocks of 3x3 convolution, norm, activation and 2x2 pooling."""

    kind: Literal["cnn"]
    channels: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(16, 32), min_length=1, max_length=6
    )
    hidden: int = Field(default=64, ge=1, le=65536, description="Width of the last hidden layer.")
    activation: Literal["relu", "tanh"] = "relu"
    norm: Literal["none", "group", "batch"] = "none"
    groups: int = Field(default=4, ge=1, description="Groups of norm = 'group'.")

    @model_validator(mode="after")
    def _divides(self) -> "CnnModel":
        if self.norm == "group" and any(width % self.groups for width in self.channels):
            raise ValueError(f"every number of channels must be a multiple of groups={self.groups}")
        return self


class PluginModel(Section):
    """A model that the plug-in task builds."""

    kind: Literal["plugin"]
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)


ModelSpec = Annotated[
    LogisticModel | LinearModel | MlpModel | CnnModel | PluginModel, Field(discriminator="kind")
]


class ScheduleSpec(Section):
    """How the learning rate changes over the rounds."""

    kind: Literal["constant", "cosine", "step"] = "constant"
    step_rounds: int = Field(default=10, ge=1, description="'step': rounds between two cuts.")
    factor: float = Field(default=0.5, gt=0, le=1, description="'step': what a cut multiplies by.")
    floor: float = Field(default=0.0, ge=0, le=1, description="'cosine': share left at the end.")


class TrainingSpec(Section):
    """What every site does in a round."""

    rounds: int = Field(ge=1, le=100_000)
    local_epochs: int | None = Field(default=None, ge=1, description="Passes over the local data.")
    local_steps: int | None = Field(default=None, ge=1, description="Or: number of local updates.")
    batch_size: int = Field(default=32, ge=1)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: Positive
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Of optimizer = 'sgd'.")
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec)
    optimizer_state: Literal["reset", "keep"] = Field(
        default="reset", description="Does a site's optimizer start afresh each round?"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    mixed_precision: bool = Field(default=False, description="bfloat16 forward passes on a GPU.")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSpec":
        if (self.local_epochs is None) == (self.local_steps is None):
            raise ValueError("give exactly one of local_epochs and local_steps")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum is for optimizer = 'sgd', not '{self.optimizer}'")
        return self


class StrategySpec(Section):
    """How the sites' updates become the next model."""

    name: str = Field(min_length=1)
    parameters: dict[str, float] = Field(default_factory=dict)


class AggregationSpec(Section):
    """How the updates are gathered."""

    secure: bool = Field(
        default=True,
        description="Only the sum of the updates is seen. false lets the coordinator see each "
        "site's own update, and is stamped into the record.",
    )
    min_sites: int = Field(default=2, ge=1, description="Fewer usable updates fail a round.")
    cohort: int | None = Field(default=None, ge=1, description="Sites drawn for each round; default: all.")
    deadline_seconds: Positive = Field(default=600.0, description="Later replies are left out.")
    attempts: int = Field(default=3, ge=1, le=100, description="Tries at a round before stopping.")
    weighting: Literal["examples", "equal"] = "examples"
    max_update_norm: Positive = Field(
        default=1e6,
        description="An update with a larger L2 norm is cut to it by its site; with secure = false it is "
        "left out by the coordinator, by name.",
    )
    lane_bits: Literal[16, 21, 32] | None = Field(
        default=None,
        description="Of one value of a secure sum; default 21, which is 2.67 bytes a value on the wire.",
    )
    value_range: Positive | None = Field(
        default=None,
        description="A value of an update, times its weight's share, counts in a secure sum up to this; "
        "default 8.",
    )


class SiteGuaranteeSpec(Section):
    """A second guarantee, for a whole site: its update is clipped and noised. Reported apart."""

    epsilon: Positive | None = Field(default=None, description="Of all rounds; or give noise_multiplier.")
    noise_multiplier: Positive | None = Field(
        default=None, description="Noise deviation over clip; or give epsilon."
    )
    delta: Share
    clip: Positive = Field(description="Largest L2 norm of a site's update.")
    noise_at: Literal["site", "server"] = Field(
        default="site",
        description="'server' adds less noise and protects against the model's recipients only, not "
        "against the coordinator.",
    )

    @model_validator(mode="after")
    def _one_target(self) -> "SiteGuaranteeSpec":
        _check_target(self.epsilon, self.noise_multiplier)
        return self


def _check_target(epsilon: float | None, noise_multiplier: float | None) -> None:
    """One of the two, and noise that a ledger can write down."""
    if (epsilon is None) == (noise_multiplier is None):
        raise ValueError("give exactly one of epsilon and noise_multiplier")
    if noise_multiplier is not None and not 1e-3 <= noise_multiplier <= 1e9:
        raise ValueError(f"noise_multiplier {noise_multiplier:g} must lie between 0.001 and 1e9")


class PrivacySpec(Section):
    """Differential privacy over the whole study: what it asks for. The sites decide."""

    unit: Literal["patient", "record", "site"] = Field(
        default="patient",
        description="Who is protected: a person with all their records, a record, or only a whole site.",
    )
    unit_column: str | None = Field(
        default=None,
        description="Column that tells patients apart; 'row' declares that every row is another person.",
    )
    adjacency: Literal["zero-out", "add-remove"] = Field(
        default="zero-out",
        description="'zero-out': the number of persons of each site is public. 'add-remove': it is not.",
    )
    epsilon: Positive | None = Field(
        default=None, description="Of a person, over all rounds and releases; or give noise_multiplier."
    )
    noise_multiplier: Positive | None = Field(
        default=None, description="Noise deviation over clip, of each step; or give epsilon."
    )
    delta: Share = Field(description="Must lie below 1 / number of persons at every site.")
    clip: Positive = Field(default=1.0, description="Largest L2 norm of a person's gradient in a step.")
    sampling: Literal["poisson", "truncated_poisson", "full_batch"] = Field(
        default="poisson",
        description="Each person is in a step independently; 'truncated_poisson' caps the step five "
        "deviations above the mean; 'full_batch' takes everybody.",
    )
    sampling_probability: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Of each person in each step; not with 'full_batch'."
    )
    expected_batch: Positive | None = Field(
        default=None,
        description="Public number that a step's sum is divided by. Default with 'zero-out': "
        "sampling_probability times the public number of training persons.",
    )
    max_records: int = Field(default=16, ge=1, description="Most records of one person in a step.")
    noise: Literal["cryptographic", "simulation"] = Field(
        default="cryptographic",
        description="'simulation' is seeded, protects nobody, and is stamped into the record.",
    )
    statistics_share: Share = Field(
        default=0.1, description="Share of epsilon that the statistics of round 0 may cost on their own."
    )
    metrics: tuple[str, ...] = Field(
        default=(),
        description="Metrics that leave the sites, noised and charged to the held-out persons.",
    )
    site: SiteGuaranteeSpec | None = Field(
        default=None, description="A second guarantee, for whole sites: table [privacy.site]."
    )

    @model_validator(mode="after")
    def _whole(self) -> "PrivacySpec":
        _check_target(self.epsilon, self.noise_multiplier)
        if self.unit != "site" and (self.sampling == "full_batch") != (self.sampling_probability is None):
            raise ValueError(
                "sampling_probability goes with sampling = 'poisson' and 'truncated_poisson', and only "
                "with them; 'full_batch' takes everybody"
            )
        return self


class HoldoutSpec(Section):
    """Which rows of a site are kept for evaluation and never trained on."""

    fraction: Share | None = Field(default=None, description="Share of the rows, drawn by hash.")
    column: str | None = Field(default=None, description="Or: a column that says it.")
    test_value: str = Field(default="test", description="What the column says of a held-out row.")

    @model_validator(mode="after")
    def _one_rule(self) -> "HoldoutSpec":
        if (self.fraction is None) == (self.column is None):
            raise ValueError("give exactly one of fraction and column")
        return self


class EvaluationSpec(Section):
    """How the model is judged, at the sites, on their held-out rows."""

    metrics: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Default: all metrics of the task."
    )
    primary: str | None = Field(
        default=None, description="Decides which round's model is kept. Default: the task's first."
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description="Which round's model is the result. The metrics of 'best' are optimistic: the "
        "rows that judge it also chose it.",
    )
    every: int = Field(default=1, ge=1, description="Rounds between two evaluations.")
    holdout: HoldoutSpec = Field(default_factory=lambda: HoldoutSpec(fraction=0.2))


class EarlyStoppingSpec(Section):
    """Stop when a metric has not improved for a while."""

    metric: str
    patience: int = Field(ge=1, description="Evaluations without improvement.")
    min_delta: float = Field(default=0.0, ge=0)
