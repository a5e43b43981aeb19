"""The life of a study in the ledger, as a site's handlers live it."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.privacy.ledgers import NOON, ONE, SIGMA, Site, charged, gaussian, plan, population, study
from tests.simulations.laboratory import environment
from vestry_privacy.accounting import PoissonGaussian, epsilon
from vestry_privacy.budget import Budget
from vestry_privacy.ledger import Answer
from vestry_privacy.ledger_entries import Hold
from vestry_privacy.ledger_errors import (
    BudgetExceeded,
    DuplicateRound,
    LedgerError,
    NotHeld,
    PopulationError,
    ReservationError,
    RoundOpen,
)
from vestry_privacy.ledger_verify import verify_ledger

TWO = study("two")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_study_from_approval_to_its_end(site: Site) -> None:
    with site.held() as ledger:
        for number in range(1, 8):
            reserved = site.reserve(ledger, number, 10)
            ledger.commit(reserved, 8, reply_hash=f"reply-{number}", model_hash="m")
        assert charged(ledger) == 56
        ledger.release(ONE.study_hash)
        ledger.release(ONE.study_hash)
        kinds = [entry.kind for entry in ledger.entries()]
    assert kinds == ["create", "register", "dataset", "hold", *["reserve", "commit"] * 7, "release"]
    with site.open() as ledger:
        assert ledger.spent(ONE.study_hash, "train") == (gaussian(56),)
        assert ledger.spent(ONE.study_hash, "holdout") == ()
        assert ledger.spent("unknown", "train") == ()
    verify_ledger(site.path, site.identity.public_key)


def test_what_was_not_done_goes_back(site: Site) -> None:
    with site.held(245) as ledger:
        with pytest.raises(BudgetExceeded):
            ledger.hold("heart", TWO, plan(1))
        ledger.commit(site.reserve(ledger, 1, 45), 45)
        ledger.release(ONE.study_hash)
        assert ledger.fits("heart", {"train": [gaussian(100)]}) == 2
        ledger.hold("heart", TWO, plan(200))
        with pytest.raises(BudgetExceeded):
            ledger.hold("heart", study("three"), plan(1))


def test_a_refused_hold_is_not_in_the_ledger(site: Site) -> None:
    with site.held() as ledger:
        rows = site.rows()
        with pytest.raises(BudgetExceeded):
            ledger.hold("heart", TWO, plan(146))
        with pytest.raises(PopulationError, match="'lung': is not registered"):
            ledger.hold("lung", TWO, plan(1))
        with pytest.raises(LedgerError, match="details"):
            ledger.hold("heart", TWO, plan(1), details={"model": object()})
        assert site.rows() == rows


def test_the_same_again_writes_nothing(site: Site) -> None:
    with site.held() as ledger:
        rows = site.rows()
        ledger.register(population())
        ledger.add_dataset("heart", "rows", "f1", ["a", "b"])
        ledger.hold("heart", ONE, plan())
        ledger.hold("heart", replace(ONE, run="run-2"), plan())
        assert site.rows() == rows
        ledger.register(population(epsilon=7.0))
        assert ledger.population("heart") == population(epsilon=7.0)
        assert ledger.population("lung") is None


def test_a_studys_delta_is_the_budgets_until_it_is_said(site: Site) -> None:
    with site.held() as ledger:
        ledger.register(replace(population(), budget=replace(population().budget, delta=1e-6, epsilon=7.9)))
        ledger.hold("heart", ONE, plan())
        ledger.hold("heart", TWO, plan(1), delta=1e-7, details={"clip": 1.0, "cap": None, "list": (1, 2)})
        holds = [entry for entry in ledger.entries() if isinstance(entry, Hold)]
    assert [hold.delta for hold in holds] == [1e-5, 1e-7]
    assert holds[1].details == {"clip": 1.0, "cap": None, "list": [1, 2]}


def test_a_round_is_charged_once_however_often_it_is_ordered(site: Site) -> None:
    with site.held() as ledger:
        assert ledger.answered(ONE.study_hash, "train", 1) is None
        reserved = site.reserve(ledger, 1)
        assert ledger.answered(ONE.study_hash, "train", 1) == Answer("order-1", "", "reserve")
        with pytest.raises(RoundOpen):
            site.reserve(ledger, 1)
        ledger.commit(reserved, 10, reply_hash="reply")
        with pytest.raises(DuplicateRound) as caught:
            site.reserve(ledger, 1)
        assert (caught.value.order_hash, caught.value.reply_hash) == ("order-1", "reply")
        assert ledger.answered(ONE.study_hash, "train", 1) == Answer("order-1", "reply", "commit", 1)
        assert ledger.answered("unknown", "train", 1) is None
        assert charged(ledger) == 10


def test_a_round_lost_in_a_crash_is_charged_and_may_be_repeated(site: Site) -> None:
    ledger = site.held()
    site.reserve(ledger, 1)
    ledger.close()
    with site.open() as ledger:
        assert ledger.answered(ONE.study_hash, "train", 1) == Answer("order-1", "", "spent-by-crash")
        ledger.commit(site.reserve(ledger, 1), 10, reply_hash="second")
        assert ledger.answered(ONE.study_hash, "train", 1) == Answer("order-1", "second", "commit", 1)
        assert charged(ledger) == 20


def test_a_round_whose_secure_sum_failed_is_charged_once_more(site: Site) -> None:
    with site.held() as ledger:
        ledger.commit(site.reserve(ledger, 1), 10, reply_hash="first")
        for wrong in (0, 2):
            with pytest.raises(DuplicateRound):
                site.reserve(ledger, 1, repeat=wrong)
        ledger.commit(site.reserve(ledger, 1, repeat=1), 10, reply_hash="second")
        assert ledger.answered(ONE.study_hash, "train", 1) == Answer("order-1", "second", "commit", 2)
        assert charged(ledger) == 20
        repeats = [entry.repeat for entry in ledger.entries() if entry.kind == "reserve"]
        assert repeats == [None, 1]
    with site.open() as ledger:  # both kinds of entry verify
        assert ledger.answered(ONE.study_hash, "train", 1) == Answer("order-1", "second", "commit", 2)


def test_a_void_charges_nothing_and_frees_the_round(site: Site) -> None:
    with site.held() as ledger:
        ledger.void(site.reserve(ledger, 1), "the model could not be read")
        assert charged(ledger) == 0
        assert ledger.answered(ONE.study_hash, "train", 1) is None
        site.reserve(ledger, 1)


def test_only_its_own_handle_ends_a_reservation(site: Site) -> None:
    with site.held() as one, site.open() as two:
        reserved = site.reserve(one, 1)
        with pytest.raises(ReservationError, match="another process"):
            two.commit(reserved, 1)
        with pytest.raises(ReservationError, match="another process"):
            two.void(reserved, "")
        with pytest.raises(RoundOpen):
            site.reserve(two, 1)
        for executed in (-1, 11):
            with pytest.raises(ReservationError, match=f"executed={executed}: must be 0 to 10"):
                one.commit(reserved, executed)
        one.commit(reserved, 0)
        with pytest.raises(ReservationError, match=r"ended already \(commit\)"):
            one.commit(reserved, 0)
        assert charged(two) == 0


def test_a_released_study_takes_no_more_rounds_until_it_is_approved_again(site: Site) -> None:
    with site.held() as ledger:
        open_one = site.reserve(ledger, 1)
        ledger.release(ONE.study_hash)
        with pytest.raises(NotHeld):
            site.reserve(ledger, 2)
        with pytest.raises(NotHeld):
            ledger.release("unknown")
        ledger.commit(open_one, 10)
        ledger.hold("heart", ONE, plan())
        site.reserve(ledger, 2)
        assert charged(ledger) == 20


def test_epsilon_of_many_runs_is_the_one_shot_figure(site: Site) -> None:
    """24 runs recompose: the ledger stores events, so no epsilons are added."""
    step = PoissonGaussian(noise_multiplier=1.0, sampling_probability=0.01, count=125)
    whole = step.model_copy(update={"count": 3000})
    with site.open() as ledger:
        ledger.register(population(epsilon=8.0))
        ledger.hold("heart", ONE, {"train": [whole]})
        for number in range(24):
            ledger.commit(ledger.reserve(ONE.study_hash, "train", "train", number, step, "o"), 125)
        spent = ledger.spent(ONE.study_hash, "train")
    assert spent == (whole,)
    assert epsilon(spent, 1e-5) == epsilon([whole], 1e-5) == pytest.approx(3.192, rel=0.005)


def test_fourteen_studies_fit_into_the_reading_of_fourteen_and_not_a_fifteenth(site: Site) -> None:
    """The design: fourteen studies of sigma 1, q .01, T 1000 read 8.17 at order 4."""
    event = PoissonGaussian(noise_multiplier=1.0, sampling_probability=0.01, count=1000)
    with site.open() as ledger:
        ledger.register(population(epsilon=8.18))
        assert ledger.fits("heart", {"train": [event]}) == 14
        for number in range(14):
            ledger.hold("heart", study(str(number)), {"train": [event]})
        with pytest.raises(BudgetExceeded, match=r"8\.172 of epsilon 8\.18 is claimed"):
            ledger.hold("heart", study("15"), {"train": [event]})


def test_a_window_grants_only_inside_and_a_clock_set_back_opens_nothing(site: Site) -> None:
    with site.open() as ledger:
        today = ledger.report().day
        ledger.register(replace(population(), budget=Budget(8.0, 1e-5, 4.0, today, today)))
        ledger.hold("heart", ONE, plan())
        site.now = NOON + 86_400
        with pytest.raises(BudgetExceeded, match="window"):
            site.reserve(ledger, 1)
        ledger.register(population("lung"))  # time moves on in the chain
        site.now = NOON
        with pytest.raises(BudgetExceeded, match="window"):
            site.reserve(ledger, 1)


def test_threads_of_one_process_share_a_handle(site: Site) -> None:
    with site.held() as ledger:

        def work(first: int) -> None:
            for number in range(first, first + 5):
                ledger.commit(site.reserve(ledger, number, 2), 1)

        threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert charged(ledger) == 20
    verify_ledger(site.path)


def test_importing_the_ledger_loads_no_accountant_and_no_torch() -> None:
    program = (
        "import sys, vestry_privacy.ledger\n"
        "assert not {'torch', 'opacus', 'dp_accounting', 'scipy', 'flwr'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True)


def test_gaussian_events_need_no_accountant(site: Site) -> None:
    """A closed form: so simulations and the crash tests stay quick."""
    assert SIGMA == 10.0
    with site.held() as ledger:
        assert ledger.fits("heart", {"train": [gaussian(1)]}) == 145


def test_witness_is_the_newest_commit_and_nothing_that_can_be_provoked(site: Site) -> None:
    with site.held() as ledger:
        assert ledger.witness == (0, (0, ""))
        reserved = site.reserve(ledger, 1)
        assert ledger.witness == (0, (0, ""))
        ledger.commit(reserved, 10)
        first = ledger.witness
        assert first == (0, ledger.head)
        site.reserve(ledger, 2)
        ledger.release(ONE.study_hash)
        assert ledger.witness == first
        assert ledger.head.seq > first[1].seq
    with site.open() as ledger:
        assert ledger.witness == first
