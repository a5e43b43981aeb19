"""What a mechanism did, as data: the events that a ledger stores and an accountant composes.

Stored are parameters and counts, never an epsilon, so that any accountant can compose them again. The family
is closed: events are read by this union, never by a name that the data give (``vestry_privacy.accounting``).

Symbols: sigma noise multiplier (noise deviation over sensitivity), q sampling probability, T steps.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Event", "GaussianRelease", "PoissonGaussian", "TruncatedPoissonGaussian"]


# Bounds far outside of anything useful, inside of which no accountant overflows: an event that a ledger has
# written can never be taken back.
Noise = Annotated[float, Field(ge=1e-3, le=1e9)]
Count = Annotated[int, Field(ge=0, le=10**12)]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class GaussianRelease(_Event):
    """Sums over all persons with Gaussian noise.

    Attributes:
        noise_multiplier: sigma.
        count: how many such releases.
    """

    mechanism: Literal["gaussian"] = "gaussian"
    noise_multiplier: Noise
    count: Count


class PoissonGaussian(_Event):
    """DP-SGD steps: each person is in a step with probability q, then Gaussian noise.

    Attributes:
        noise_multiplier: sigma.
        sampling_probability: q.
        count: T.
    """

    mechanism: Literal["poisson-gaussian"] = "poisson-gaussian"
    noise_multiplier: Noise
    sampling_probability: float = Field(gt=0, le=1)
    count: Count


class TruncatedPoissonGaussian(_Event):
    """DP-SGD steps whose batches are cut at random to a cap (arXiv:2508.15089).

    Attributes:
        noise_multiplier: sigma.
        sampling_probability: q.
        cap: most persons in a step.
        persons: public number of persons.
        count: T.
    """

    mechanism: Literal["truncated-poisson-gaussian"] = "truncated-poisson-gaussian"
    noise_multiplier: Noise
    sampling_probability: float = Field(gt=0, le=1)
    cap: int = Field(ge=1)
    persons: int = Field(ge=1)
    count: Count


Event = Annotated[
    GaussianRelease | PoissonGaussian | TruncatedPoissonGaussian, Field(discriminator="mechanism")
]
