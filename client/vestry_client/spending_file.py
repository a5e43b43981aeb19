"""A file of past spending (TOML or JSON): what was done to a population's persons outside of this ledger.

    version = 1
    note = "Pilot of 2025, before Vestry"

    [[spent]]
    population = "cardiology"
    mechanism = "poisson-gaussian"
    noise_multiplier = 1.0
    sampling_probability = 0.01
    count = 1000

A closed schema: nothing in the file names code, and an unknown mechanism or key is refused.

    VestryError
    └── SpendingFileError    the file is missing, is neither TOML nor JSON, or breaks a rule
"""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from vestry_privacy.accounting import Event, GaussianRelease, PoissonGaussian, TruncatedPoissonGaussian
from vestry_privacy.errors import VestryError
from vestry_strategies.explain import explain_validation
from vestry_strategies.schema import Section

__all__ = ["SpendingFile", "SpendingFileError", "SpentEvent", "load_spending"]

_NEEDS: dict[str, tuple[str, ...]] = {
    "gaussian": (),
    "poisson-gaussian": ("sampling_probability",),
    "truncated-poisson-gaussian": ("sampling_probability", "cap", "persons"),
}


class SpendingFileError(VestryError):
    """A file of past spending is refused; the message lists every key, the problem and the way out."""


class SpentEvent(Section):
    """One kind of step or release, and how often it was done."""

    population: str = Field(min_length=1, max_length=200, description="A registered population.")
    mechanism: Literal["gaussian", "poisson-gaussian", "truncated-poisson-gaussian"] = Field(
        description="A release over all persons, steps over persons drawn at random, or those with a cap."
    )
    noise_multiplier: Annotated[float, Field(ge=0.01, le=1000)] = Field(
        description="Noise deviation over the bound of one person's part; of less write 0.01, of more 1000."
    )
    sampling_probability: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Of each person in each step."
    )
    cap: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Most persons in a step.")
    persons: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Public number of persons.")
    count: int = Field(ge=1, le=10**6, description="How often, up to a million.")

    @model_validator(mode="after")
    def _fits(self) -> "SpentEvent":
        needed = _NEEDS[self.mechanism]
        broken = []
        for key in ("sampling_probability", "cap", "persons"):
            if (getattr(self, key) is not None) == (key in needed):
                continue
            which = "is needed with" if key in needed else "does not go with"
            broken.append(f"{key} {which} mechanism = '{self.mechanism}'")
        if broken:
            raise ValueError("\n".join(broken))
        return self

    def event(self) -> Event:
        """The accountant's event."""
        sigma, q = self.noise_multiplier, self.sampling_probability
        if q is None:
            return GaussianRelease(noise_multiplier=sigma, count=self.count)
        if self.cap is None or self.persons is None:
            return PoissonGaussian(noise_multiplier=sigma, sampling_probability=q, count=self.count)
        return TruncatedPoissonGaussian(
            noise_multiplier=sigma,
            sampling_probability=q,
            cap=self.cap,
            persons=self.persons,
            count=self.count,
        )


class SpendingFile(Section):
    """Past spending of one or more populations."""

    version: Literal[1] = 1
    note: str = Field(min_length=1, max_length=2000, description="What it was, and how it is known.")
    spent: tuple[SpentEvent, ...] = Field(default=(), description="Tables [[spent]].")
    lost_nothing: tuple[str, ...] = Field(
        default=(), description="Populations that a restored backup took nothing from."
    )

    @model_validator(mode="after")
    def _once(self) -> "SpendingFile":
        both = sorted({spent.population for spent in self.spent} & set(self.lost_nothing))
        if both:
            raise ValueError(f"lost_nothing: {', '.join(both)} has tables [[spent]] too; remove one")
        return self

    def by_population(self) -> dict[str, tuple[Event, ...]]:
        """Population -> its events."""
        events: dict[str, tuple[Event, ...]] = {}
        for spent in self.spent:
            events[spent.population] = (*events.get(spent.population, ()), spent.event())
        return events

    def lost(self) -> dict[str, tuple[Event, ...]]:
        """Population -> what a restored backup took; with nothing where the file says so."""
        return {**self.by_population(), **dict.fromkeys(self.lost_nothing, ())}


def load_spending(path: Path) -> SpendingFile:
    """Read and check a file of past spending; ``.json`` is JSON, anything else TOML.

    Raises:
        SpendingFileError: it cannot be read, is neither, or breaks a rule.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpendingFileError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpendingFileError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    try:
        return SpendingFile.model_validate_json(json.dumps(_plain(path, text), default=str))
    except ValidationError as error:
        raise SpendingFileError(f"{path}: {explain_validation(error, SpendingFile)}") from None


def _plain(path: Path, text: str) -> Any:
    is_json = path.suffix.lower() == ".json"
    try:
        return json.loads(text) if is_json else tomllib.loads(text)
    except ValueError as error:
        kind = "JSON" if is_json else "TOML"
        raise SpendingFileError(f"{path}: this is no {kind}: {error}") from None
