"""A population: the persons who share one budget.

A budget belongs to persons, not to a file: a new extract, another name, a filter or a derived data set joins
the population that its steward declares. What is registered is public, and the ledger keeps it.
"""

from dataclasses import dataclass
from typing import Literal

from vestry_privacy.accounting import Adjacency
from vestry_privacy.budget import Budget
from vestry_privacy.ledger_errors import PopulationError
from vestry_privacy.plan import Unit

__all__ = ["Guarantee", "Population"]

Guarantee = Literal["dp", "none"]


@dataclass(frozen=True)
class Population:
    """Persons who share one budget, whatever files they are in.

    Attributes:
        name: of the population.
        unit: who is protected.
        unit_column: tells the units apart; ``"row"`` declares that each row is another person.
        adjacency: what neighbouring data sets are.
        persons: public number; None only with ``add-remove``.
        budget: of a person.
        guarantee: ``none`` where the site lets exact sums leave.
    """

    name: str
    unit: Unit
    unit_column: str | None
    adjacency: Adjacency
    persons: int | None
    budget: Budget
    guarantee: Guarantee = "dp"

    def __post_init__(self) -> None:
        """Refuse what protects nobody.

        Raises:
            PopulationError: names the field, the problem and the way out.
        """
        said = f"population {self.name!r}"
        if not 0 < len(self.name) <= 200:
            raise PopulationError("population.name: must have 1 to 200 characters")
        if self.unit == "patient" and not self.unit_column:
            raise PopulationError(f"{said}, unit_column: unit = 'patient' needs the column; or 'row'")
        if self.persons is None and self.adjacency == "zero-out":
            raise PopulationError(f"{said}, persons: 'zero-out' needs a public number; or use 'add-remove'")
        if self.persons is not None and self.persons < 1:
            raise PopulationError(f"{said}, persons={self.persons}: must be at least 1")
        if self.persons is not None and self.unit != "site" and self.budget.delta >= 1 / self.persons:
            raise PopulationError(
                f"{said}, budget.delta={self.budget.delta:g}: must be below 1/{self.persons}, since "
                f"publishing one person's whole record satisfies it; use {0.1 / self.persons:.0e} or less"
            )

    @property
    def row_is_person(self) -> bool:
        """Did the steward declare that each row is another person?"""
        return self.unit_column == "row"
