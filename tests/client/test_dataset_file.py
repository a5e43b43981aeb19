"""What the ledger learns of a data file: fingerprint and identifiers; messages hold neither."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vestry_client.dataset_file import file_fingerprint, identifiers_of
from vestry_strategies.rows import ContractViolation, DataFileError


def write(path: Path, *identifiers: str) -> Path:
    path.write_text("\n".join(["patient_id,age", *(f"{name},50" for name in identifiers)]), encoding="utf-8")
    return path


def test_a_fingerprint_is_the_files_sha_256(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "A1")
    assert file_fingerprint(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    before = file_fingerprint(path)
    write(path, "A2")
    assert file_fingerprint(path) != before


def test_identifiers_are_distinct_and_sorted(tmp_path: Path) -> None:
    assert identifiers_of(write(tmp_path / "a.csv", "B", "A", "B"), "patient_id") == ["A", "B"]


def test_one_person_has_one_spelling(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "0017", "17", " 17 ", "17.0", "M\u00fcller-1", "Mu\u0308ller-1", "000")
    assert identifiers_of(path, "patient_id") == ["0", "17", "M\u00fcller-1"]


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_numbers_are_the_same_persons_in_every_file(numbers: list[int]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        text = write(Path(folder) / "a.csv", *map(str, numbers))
        padded = write(Path(folder) / "b.csv", *(f"{number:015}" for number in numbers))
        np.savez(Path(folder) / "c.npz", patient_id=np.array(numbers))
        np.savez(Path(folder) / "d.npz", patient_id=np.array(numbers, dtype=np.float64))
        found = identifiers_of(text, "patient_id")
        assert found == identifiers_of(padded, "patient_id")
        assert found == identifiers_of(Path(folder) / "c.npz", "patient_id")
        assert found == identifiers_of(Path(folder) / "d.npz", "patient_id")
        assert len(found) == len(set(numbers))


@pytest.mark.parametrize(("missing", "said"), [(3, "fewer than 10 rows"), (12, "12 rows")])
def test_a_row_without_an_identifier_is_refused_with_a_safe_count(
    tmp_path: Path, missing: int, said: str
) -> None:
    path = write(tmp_path / "a.csv", "SECRET-1", *[""] * missing, "SECRET-2")
    with pytest.raises(ContractViolation) as error:
        identifiers_of(path, "patient_id")
    assert said in str(error.value)
    assert "column 'patient_id'" in str(error.value)
    assert "SECRET" not in str(error.value)


def test_a_number_that_is_none_is_missing(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", patient_id=np.array([1.0, np.nan]))
    with pytest.raises(ContractViolation, match="every row has an identifier"):
        identifiers_of(tmp_path / "a.npz", "patient_id")


def test_a_declaration_of_one_row_a_person_is_checked_where_it_can_be(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "SECRET-1", "B", "SECRET-1")
    assert len(identifiers_of(path, "patient_id")) == 2
    with pytest.raises(ContractViolation, match="every row is another person") as error:
        identifiers_of(path, "patient_id", distinct=True)
    assert "SECRET" not in str(error.value)
    assert "fewer than 10 rows" in str(error.value)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "A")
    with pytest.raises(DataFileError, match="column 'case' is missing; the file has: patient_id, age"):
        identifiers_of(path, "case")
    for function in (file_fingerprint, lambda path: identifiers_of(path, "patient_id")):
        with pytest.raises(DataFileError, match="no such file"):
            function(tmp_path / "none.csv")
        with pytest.raises(DataFileError):
            function(tmp_path)
    with pytest.raises(DataFileError, match="no such file"):
        identifiers_of(tmp_path / "none.npz", "patient_id")
    (tmp_path / "b.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataFileError, match=r"no \.npz file"):
        identifiers_of(tmp_path / "b.npz", "patient_id")
    np.savez(tmp_path / "c.npz", patient_id=np.zeros((2, 2)), other=np.zeros(2))
    with pytest.raises(DataFileError, match="one identifier a row"):
        identifiers_of(tmp_path / "c.npz", "patient_id")
    with pytest.raises(DataFileError, match="array 'case' is missing; the file has: patient_id, other"):
        identifiers_of(tmp_path / "c.npz", "case")
