"""A population is registered with what makes its budget mean something."""

from dataclasses import replace

import pytest

from tests.privacy.ledgers import population
from vestry_privacy.budget import Budget
from vestry_privacy.ledger_errors import PopulationError
from vestry_privacy.population import Population


def test_a_patient_needs_a_column_and_row_is_a_declaration() -> None:
    with pytest.raises(PopulationError, match="needs the column"):
        replace(population(), unit_column=None)
    assert not population().row_is_person
    assert replace(population(), unit_column="row").row_is_person


def test_zero_out_needs_a_public_number() -> None:
    with pytest.raises(PopulationError, match="public number"):
        replace(population(), persons=None)
    assert replace(population(), persons=None, adjacency="add-remove").persons is None


@pytest.mark.parametrize("persons", [0, -5])
def test_nobody_is_no_population(persons: int) -> None:
    with pytest.raises(PopulationError, match=f"persons={persons}"):
        replace(population(), persons=persons)


def test_a_delta_that_allows_publishing_a_person_is_refused() -> None:
    with pytest.raises(PopulationError, match=r"must be below 1/1000.*use 1e-04"):
        Population("p", "patient", "pid", "zero-out", 1000, Budget(8.0, 1e-3, 4.0))
    sites = Population("p", "site", None, "zero-out", 1000, Budget(8.0, 1e-3, 4.0))
    assert sites.unit == "site"


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_a_name_has_a_length(name: str) -> None:
    with pytest.raises(PopulationError, match="1 to 200"):
        replace(population(), name=name)
