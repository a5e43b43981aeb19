"""The chain in use: what others append, what a restored backup hides, a clock that goes backwards."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.privacy.ledgers import NOON, ONE, STRANGER, Site, charged, gaussian, plan, population, study
from vestry_privacy.ledger import Ledger
from vestry_privacy.ledger_chain import lost_entries
from vestry_privacy.ledger_entries import Create, Reconcile
from vestry_privacy.ledger_errors import (
    LedgerError,
    LedgerRollback,
    LedgerTampered,
    NotHeld,
    PopulationError,
    WrongIdentity,
)
from vestry_privacy.ledger_file import Head
from vestry_privacy.ledger_verify import verify_ledger


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def rolled_back(site: Site) -> Ledger:
    """A handle on a ledger whose database was restored from before two rounds."""
    with site.held() as ledger:
        copy = site.back_up()
        for number in (1, 2):
            ledger.commit(site.reserve(ledger, number), 10)
    site.restore(copy)
    return site.open()


def test_a_new_ledger_says_whose_it_is(site: Site) -> None:
    with site.open() as ledger:
        (first,) = ledger.entries()
    assert isinstance(first, Create)
    assert first.public_key == site.identity.public_key.hex()
    assert set(first.software) == {"python", "vestry", "dp-accounting"}


def test_another_identity_is_refused(site: Site) -> None:
    site.held().close()
    rows = site.rows()
    with pytest.raises(WrongIdentity, match="use the site's own key file"):
        Site(site.folder, identity=STRANGER).open()
    assert site.rows() == rows


def test_handles_see_what_others_append(site: Site) -> None:
    with site.held() as one, site.open() as two:
        first = site.reserve(one, 1)
        second = site.reserve(two, 2)
        assert second == first + 1
        assert charged(one) == charged(two) == 20
        one.commit(first, 4)
        assert charged(two) == 14
    verify_ledger(site.path, site.identity.public_key)


def test_a_change_by_another_hand_is_found_while_open(site: Site) -> None:
    with site.held() as ledger:
        site.reserve(ledger, 1)
        site.change("UPDATE entries SET hash = ? WHERE seq = 5", ("0" * 64,))
        with pytest.raises(LedgerTampered, match="entry 5, hash"):
            site.reserve(ledger, 2)
        with pytest.raises(LedgerTampered, match="entry 5, hash"):
            charged(ledger)


@pytest.mark.parametrize("refused", ["hold", "reserve", "register", "import", "add_dataset", "release"])
def test_a_restored_backup_grants_nothing(refused: str, site: Site) -> None:
    uses: dict[str, Callable[[Ledger], object]] = {
        "hold": lambda ledger: ledger.hold("heart", study("two"), plan(1)),
        "reserve": lambda ledger: site.reserve(ledger, 9),
        "register": lambda ledger: ledger.register(population("lung")),
        "import": lambda ledger: ledger.import_spending("heart", [gaussian(1)], "x"),
        "add_dataset": lambda ledger: ledger.add_dataset("heart", "rows", "f9", None),
        "release": lambda ledger: ledger.release(ONE.study_hash),
    }
    with rolled_back(site) as ledger:
        rows, head = site.rows(), site.head.read_bytes()
        assert (
            ledger.rollback == "8 entries were written, and the newest here is 4: an older copy was restored"
        )
        with pytest.raises(LedgerRollback, match="counts as exhausted until 'reconcile'"):
            uses[refused](ledger)
        assert ledger.fits("heart", {"train": [gaussian(1)]}) == 0
        report = ledger.report()
        assert report.lost == ledger.rollback
        assert report.populations[0].left_epsilon == 0.0
        assert (site.rows(), site.head.read_bytes()) == (rows, head), "the evidence is kept"
    with pytest.raises(LedgerRollback):
        verify_ledger(site.path)


def test_a_backup_that_is_restored_while_a_handle_is_open_is_noticed_by_the_next_one(site: Site) -> None:
    with site.held() as ledger:
        copy = site.back_up()
        site.reserve(ledger, 1)
    site.restore(copy)
    with site.open() as ledger, pytest.raises(LedgerRollback):
        site.reserve(ledger, 2)


def test_another_branch_is_noticed(site: Site) -> None:
    with site.held() as ledger:
        copy = site.back_up()
        site.reserve(ledger, 1)
        head = site.head.read_bytes()
    site.restore(copy)
    site.head.unlink()
    with site.open() as ledger:
        ledger.reconcile("not what was lost", {"heart": []})
        site.reserve(ledger, 2)
    site.head.write_bytes(head)
    with site.open() as ledger:
        assert ledger.rollback is not None
        assert "another branch" in ledger.rollback


def test_reconciling_charges_what_was_lost_and_goes_on(site: Site) -> None:
    with rolled_back(site) as ledger:
        with pytest.raises(LedgerError, match="say what population 'heart' lost"):
            ledger.reconcile("restored", {})
        with pytest.raises(PopulationError, match="'lung'"):
            ledger.reconcile("restored", {"heart": [], "lung": []})
        ledger.reconcile("restored from Sunday's tape", {"heart": [gaussian(20)]})
        assert ledger.rollback is None
        *_, newest = ledger.entries()
        assert isinstance(newest, Reconcile)
        assert (newest.seq, newest.lost_seq) == (9, 8), "no number is used twice"
        number = site.reserve(ledger, 3)
        assert number == 10
        (reported,) = ledger.report().populations
        assert reported.claimed_epsilon == pytest.approx(
            reported.population.budget.epsilon_of(120 * 4.0 / 200)
        )
    with site.open() as ledger:
        assert ledger.rollback is None
        assert ledger.report().reconciled == 1
    assert verify_ledger(site.path).reconciled == (9,)


def test_there_is_nothing_to_reconcile_where_nothing_was_lost(site: Site) -> None:
    with site.held() as ledger, pytest.raises(LedgerError, match="no entries were lost"):
        ledger.reconcile("why not", {"heart": []})


@pytest.mark.parametrize("content", [None, b"rubbish"])
def test_a_head_that_is_gone_or_damaged_counts_as_a_loss(content: bytes | None, site: Site) -> None:
    site.held().close()
    site.head.unlink() if content is None else site.head.write_bytes(content)
    with site.open() as ledger:
        assert ledger.rollback is not None
        assert "could not be told" in ledger.rollback
        with pytest.raises(LedgerRollback):
            site.reserve(ledger, 1)
        ledger.reconcile("the disk of the head failed", {"heart": []})
        assert site.reserve(ledger, 1) == 6


def test_a_head_that_a_crash_left_one_append_behind_is_renewed(site: Site) -> None:
    with site.held() as ledger:
        head = site.head.read_bytes()
        ledger.register(population("lung"))
    site.head.write_bytes(head)
    with site.open() as ledger:
        assert ledger.rollback is None
    assert site.head.read_bytes() != head


def test_lost_entries_are_told_from_the_head() -> None:
    hashes = {1: "a", 2: "b"}
    assert lost_entries(Head(2, "b"), hashes) is None
    assert lost_entries(Head(1, "a"), hashes) is None
    assert lost_entries(None, {1: "a"}) is None
    assert lost_entries(None, {}) is None
    for head, known in ((Head(3, "c"), hashes), (Head(2, "x"), hashes), (None, hashes), (Head(1, "a"), {})):
        assert lost_entries(head, known) is not None


def test_a_clock_set_back_is_stamped_and_time_does_not_go_back(site: Site) -> None:
    with site.held() as ledger:
        site.now = NOON - 86_400
        site.reserve(ledger, 1)
        site.now = NOON + 60
        site.reserve(ledger, 2)
        *_, before, after = ledger.entries()
    assert (before.time, before.clock_set_back) == (int(NOON * 1000), True)
    assert (after.time, after.clock_set_back) == (int((NOON + 60) * 1000), False)
    assert verify_ledger(site.path).clock_set_back == (5,)


@pytest.mark.parametrize("now", [-5.0, 1e15])
def test_a_clock_of_no_year_is_refused_or_taken_as_the_first(now: float, site: Site) -> None:
    site.now = now
    if now < 0:
        with site.open() as ledger:
            assert next(iter(ledger.entries())).time == 0
    else:
        with pytest.raises(LedgerError, match="time"):
            site.open()


def test_what_cannot_be_stored_is_refused_before_it_is_written(site: Site) -> None:
    with site.held() as ledger:
        rows = site.rows()
        with pytest.raises(LedgerError):
            ledger.import_spending("heart", [gaussian(1)], "\ud800")
        with pytest.raises(LedgerError, match="round"):
            ledger.reserve(ONE.study_hash, "train", "train", -1, gaussian(1), "o")
        with pytest.raises(LedgerError, match="epsilon_cap"):
            ledger.hold("heart", study("two"), plan(1), epsilon_cap=-1.0)
        assert site.rows() == rows
        site.reserve(ledger, 1)


def test_a_refusal_in_the_middle_of_a_transaction_writes_nothing(site: Site) -> None:
    """A dead process's reservation is settled in the transaction that is then refused."""
    with site.held(10) as ledger:
        site.reserve(ledger, 1)
    with site.open() as ledger:
        assert [entry.kind for entry in ledger.entries()][-1] == "spent-by-crash"
    with site.open() as one, site.open() as two:
        site.reserve(one, 2)
        one.close()
        rows = site.rows()
        with pytest.raises(NotHeld):
            site.reserve(two, 3, 0)
        assert site.rows() == rows
        site.reserve(two, 3)
        assert [entry.kind for entry in two.entries()][-2:] == ["spent-by-crash", "reserve"]
