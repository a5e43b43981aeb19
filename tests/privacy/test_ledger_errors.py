"""Every refusal says what, why and how on, and carries what a caller must tell apart."""

from vestry_privacy import ledger_errors
from vestry_privacy.ledger_errors import (
    BudgetExceeded,
    DuplicateRound,
    LedgerError,
    LedgerRollback,
    LedgerTampered,
    OverlapError,
)


def test_all_are_ledger_errors() -> None:
    for name in ledger_errors.__all__:
        assert issubclass(getattr(ledger_errors, name), LedgerError)


def test_tampering_names_entry_and_part() -> None:
    error = LedgerTampered(7, "signature", "is not the site's")
    assert (error.seq, error.broken) == (7, "signature")
    assert str(error).startswith("ledger, entry 7, signature: is not the site's")
    assert str(LedgerTampered(0, "file", "x")).startswith("ledger, file, file: x")


def test_a_rollback_says_that_nothing_is_left() -> None:
    assert "exhausted until 'reconcile'" in str(LedgerRollback("entries are missing"))


def test_a_budget_says_whose_and_how_much() -> None:
    error = BudgetExceeded("heart", "budget", "no room", 8.5, 8.0)
    assert (error.population, error.rule, error.asked, error.allowed) == ("heart", "budget", 8.5, 8.0)
    assert str(error) == "population 'heart', budget: no room"


def test_a_duplicate_carries_the_hashes_of_order_and_answer() -> None:
    error = DuplicateRound("again", "order", "reply")
    assert (error.order_hash, error.reply_hash) == ("order", "reply")


def test_an_overlap_names_the_other_population() -> None:
    assert OverlapError("heart", "x").population == "heart"
