"""Orders of a private study at a site with a real ledger: paid before computed, answered once, bounded."""

import fcntl
import json
import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vestry_client.private_orders
import vestry_client.site
from tests.client.clinic import (
    Clinic,
    answered,
    guaranteed_study,
    make_clinic,
    make_policy,
    make_rules,
    refused,
    site_rules,
    site_study,
)
from vestry_client.train import TrainingDiverged
from vestry_privacy.ledger_errors import LedgerUnavailable, LedgerVersion
from vestry_strategies.orders import EvaluateReply, Order, StatisticsReply, TrainReply

module: Any = vestry_client.private_orders
site_module: Any = vestry_client.site


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rounds of which training began."""
    seen: list[int] = []
    real = module.train_locally

    def spy(*arguments: Any, **named: Any) -> Any:
        seen.append(arguments[5])
        return real(*arguments, **named)

    monkeypatch.setattr(module, "train_locally", spy)
    return seen


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """What is computed of real rows, and the newest entry that a second connection sees at that moment."""
    seen: list[tuple[str, str]] = []
    real = site_module.find_task

    def newest() -> str:
        with closing(sqlite3.connect(f"file:{tmp_path}/ledger.sqlite?mode=ro", uri=True)) as other:
            (body,) = other.execute("SELECT body FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
        return str(json.loads(body)["kind"])

    def spied(study: Any, allowed: Any) -> Any:
        task = real(study, allowed)

        def encode(study: Any, preprocessing: Any, design: Any) -> Any:
            if len(design) > 2:  # more than the rows that an order is tried with
                seen.append(("encode", newest()))
            return task.features.encode(study, preprocessing, design)

        def statistics(study: Any, design: Any) -> Any:
            seen.append(("statistics", newest()))
            assert task.features.bounded_statistics is not None
            return task.features.bounded_statistics(study, design)

        return replace(task, features=replace(task.features, encode=encode, bounded_statistics=statistics))

    monkeypatch.setattr(site_module, "find_task", spied)
    site_module.make_bench.cache_clear()
    yield seen
    site_module.make_bench.cache_clear()


def test_the_reservation_is_on_the_disk_before_the_first_row_is_used(
    looks: list[tuple[str, str]], tmp_path: Path
) -> None:
    with make_clinic(tmp_path) as clinic:
        for order in (clinic.statistics(), clinic.train(1), clinic.evaluate(1), clinic.train(2)):
            answered(clinic.ask(order))
    assert looks == [("statistics", "reserve"), ("encode", "reserve"), ("encode", "reserve")]


def locked(clinic: Clinic, folder: Path, patch: pytest.MonkeyPatch) -> None:
    descriptor = os.open(folder / "ledger.sqlite.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    weakref.finalize(clinic, os.close, descriptor)


def busy(clinic: Clinic, folder: Path, patch: pytest.MonkeyPatch) -> None:
    other = sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    weakref.finalize(clinic, other.close)


def read_only(clinic: Clinic, folder: Path, patch: pytest.MonkeyPatch) -> None:
    connection = clinic.ledger._chain.file._connection
    assert connection is not None
    connection.execute("PRAGMA query_only = ON")


def newer(clinic: Clinic, folder: Path, patch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)) as other:
        (seq,) = other.execute("SELECT max(seq) FROM entries").fetchone()
        other.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (seq + 1, '{"version":2}', "0" * 64, b""))


def full(clinic: Clinic, folder: Path, patch: pytest.MonkeyPatch) -> None:
    def no_room(path: Path, content: bytes) -> Path:
        raise OSError(28, "No space left on device")

    patch.setattr("vestry_privacy.ledger_file.write_beside", no_room)


def gone(clinic: Clinic, folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder / "ledger.sqlite").rename(folder / "elsewhere")


@pytest.mark.parametrize("trouble", [locked, busy, read_only, newer, full, gone])
@pytest.mark.parametrize("held", [False, True])
def test_a_ledger_that_cannot_be_written_lets_nothing_train(
    trouble: Any,
    held: bool,
    trainings: list[int],
    looks: list[tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with make_clinic(tmp_path, patience=0.05) as clinic:
        if held:
            answered(clinic.ask(clinic.statistics()))
        seen = len(looks)
        trouble(clinic, tmp_path, monkeypatch)
        for order in (clinic.train(1), clinic.evaluate(1)):
            said = refused(clinic.ask(order), "ledger")
            assert said.startswith("refused by the site's privacy ledger (Ledger")
        assert trainings == []
        assert len(looks) == seen


def test_a_ledger_that_a_newer_version_wrote_is_not_opened(tmp_path: Path) -> None:
    with make_clinic(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerVersion), make_clinic(tmp_path):
        pass


def orders(clinic: Clinic) -> list[Order]:
    return [clinic.statistics(), clinic.train(1), clinic.evaluate(1)]


def content(reply: Any) -> Any:
    if isinstance(reply, TrainReply):
        return reply.update.tobytes(), reply.weight, reply.spent, reply.steps, reply.round
    assert isinstance(reply, StatisticsReply | EvaluateReply)
    return [(name, array.shape, array.tobytes()) for name, array in reply.sums.items()]


def test_a_duplicate_order_gets_the_identical_reply_in_this_process_and_the_next(
    trainings: list[int], tmp_path: Path
) -> None:
    with make_clinic(tmp_path) as clinic:
        first = [content(clinic.ask(order)) for order in orders(clinic)]
        charged = clinic.charged(), clinic.charged("holdout")
        entries = len(clinic.kinds())
        assert [content(clinic.ask(order)) for order in reversed(orders(clinic))] == first[::-1]
        assert len(clinic.kinds()) == entries
    with make_clinic(tmp_path) as clinic:
        assert [content(clinic.ask(order)) for order in orders(clinic)] == first
        assert (clinic.charged(), clinic.charged("holdout")) == charged == (3, 1)
    assert trainings == [1]


def test_the_same_round_with_another_model_is_refused(trainings: list[int], tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        first = content(clinic.ask(clinic.train(1)))
        other = clinic.model + np.float32(0.5)
        assert "DuplicateRound" in refused(clinic.ask(clinic.train(1, model=other)), "ledger")
        moved = {**clinic.preprocessing, "mean": clinic.preprocessing["mean"] + 1}
        assert "DuplicateRound" in refused(clinic.ask(clinic.train(1, preprocessing=moved)), "ledger")
        answered(clinic.ask(clinic.evaluate(1)))
        refused(clinic.ask(clinic.evaluate(1, model=other)), "ledger")
        assert content(clinic.ask(clinic.train(1))) == first
        assert (trainings, clinic.charged(), clinic.charged("holdout")) == ([1], 2, 1)


@pytest.mark.parametrize("done", [[1, 2], [2]])
def test_an_older_round_is_refused(done: list[int], trainings: list[int], tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        for number in done:
            answered(clinic.ask(clinic.train(number)))
        refused(clinic.ask(clinic.train(1)), "ledger")
        assert trainings == done
        assert clinic.charged() == 2 * len(done)
        answered(clinic.ask(clinic.train(4)))


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_kept_reply_that_is_damaged_or_gone_is_never_computed_again(
    damage: str, trainings: list[int], tmp_path: Path
) -> None:
    with make_clinic(tmp_path) as clinic:
        answered(clinic.ask(clinic.train(1)))
        (path,) = tmp_path.glob("*/replies/TrainReply.reply")
        whole = bytearray(path.read_bytes())
        if damage == "remove":
            path.unlink()
        else:
            whole[-1] ^= damage == "flip"
            path.write_bytes(whole if damage == "flip" else whole[:100])
        said = refused(clinic.ask(clinic.train(1)), "ledger")
        assert "DuplicateRound" in said if damage == "remove" else "damaged" in said
        assert (trainings, clinic.charged()) == ([1], 2)
        answered(clinic.ask(clinic.train(2)))  # the study goes on
        assert trainings == [1, 2]


def test_a_reply_that_cannot_be_kept_is_not_sent(
    trainings: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vestry_client.replies as replies

    def no_room(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with make_clinic(tmp_path) as clinic:
        monkeypatch.setattr(replies, "write_atomically", no_room)
        assert "No space left" in refused(clinic.ask(clinic.train(1)), "ledger")
        monkeypatch.setattr(replies, "write_atomically", lambda path, content: None)
        refused(clinic.ask(clinic.train(1)), "ledger")
        assert (trainings, clinic.charged()) == ([1], 2)


def test_a_commit_that_fails_sends_nothing_and_is_not_repeated(
    trainings: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_clinic(tmp_path, patience=0.05) as clinic:
        real = clinic.site.ledger
        assert real is not None
        with monkeypatch.context() as patch:

            def fails(*arguments: Any, **named: Any) -> None:
                raise LedgerUnavailable("ledger: the disk is full")

            patch.setattr(type(real), "commit", fails)
            refused(clinic.ask(clinic.train(1)), "ledger")
        assert clinic.charged() == 2  # the reservation
        kept = answered(clinic.ask(clinic.train(1)))
        assert kept.update.shape == clinic.model.shape
        assert (trainings, clinic.charged()) == ([1], 2)


def form(reply: Any) -> Any:
    """What of a reply a coordinator sees but for its noisy values."""
    if isinstance(reply, TrainReply):
        plain = (reply.site, reply.round, reply.weight, reply.loss, reply.steps, reply.spent)
        return plain, reply.update.shape, reply.update.dtype
    return [(name, array.shape, array.dtype) for name, array in reply.sums.items()]


def test_a_site_of_few_persons_sends_noise_that_looks_like_any_other(tmp_path: Path) -> None:
    changes = (
        ("delta = 1e-5", 'delta = 1e-5\nadjacency = "add-remove"'),
        ("max_records = 4", "max_records = 4\nexpected_batch = 10.0"),
    )
    forms, sums = [], []
    for declared in (9, 30):
        rules = make_rules(adjacency="add-remove", publish_persons=False, persons=declared)
        with make_clinic(tmp_path / str(declared), *changes, policy=make_policy(rules)) as clinic:
            replies = [answered(clinic.ask(order)) for order in orders(clinic)]
            forms.append([form(reply) for reply in replies])
            sums.append(replies[0].sums["persons"][0])
            assert clinic.kinds().count("commit") == 3
    assert forms[0] == forms[1]
    assert sums[0] != sums[1]


def test_what_leaves_beside_the_update_is_public(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        reply = answered(clinic.ask(clinic.train(1)))
        assert (reply.weight, reply.loss, reply.steps) == (50.0, None, 2)
        reply = answered(clinic.ask(clinic.train(2)))
        (spent,) = [json.loads(text) for text in reply.spent]
        assert (spent["count"], spent["noise_multiplier"], spent["sampling_probability"]) == (4, 3.0, 0.2)
        statistics = answered(clinic.ask(clinic.statistics()))
        assert set(statistics.sums) == {"persons", "count", "sum", "squares"}
        for array in statistics.sums.values():
            assert not np.equal(array, np.round(array)).any()  # no count that is exact
        evaluation = answered(clinic.ask(clinic.evaluate(2)))
        assert set(evaluation.sums) == {"confusion"}
        assert not np.equal(evaluation.sums["confusion"], np.round(evaluation.sums["confusion"])).any()


def test_metrics_leave_only_where_the_study_names_them(tmp_path: Path) -> None:
    with make_clinic(tmp_path, ('metrics = ["accuracy"]\n', "")) as clinic:
        assert answered(clinic.ask(clinic.evaluate(1))).sums == {}
        assert clinic.charged("holdout") == 0


def test_exact_sums_are_stamped_in_ledger_and_reply(tmp_path: Path) -> None:
    with make_clinic(tmp_path, policy=make_policy(make_rules(exact_sums=True))) as clinic:
        reply = answered(clinic.ask(clinic.statistics()))
        data = clinic.site.data(clinic.bench)
        assert reply.guarantee == "none"
        assert reply.sums["persons"][0] == pytest.approx(len(set(data.train_owners.tolist())))
        (hold,) = [entry for entry in clinic.ledger.entries() if entry.kind == "hold"]
        assert hold.guarantee == "none"
        population = clinic.ledger.population("ward")
        assert population is not None
        assert population.guarantee == "none"


def test_simulated_noise_needs_the_policy_and_is_stamped(tmp_path: Path) -> None:
    simulated = ("noise_multiplier = 3.0", 'noise_multiplier = 3.0\nnoise = "simulation"')
    with make_clinic(tmp_path / "no", simulated) as clinic:
        assert "secure_noise" in refused(clinic.ask(clinic.statistics()), "policy")
        assert clinic.kinds() == []
    updates = []
    for place in ("one", "two"):
        with make_clinic(
            tmp_path / place, simulated, policy=make_policy(make_rules(secure_noise=False))
        ) as clinic:
            assert answered(clinic.ask(clinic.statistics())).guarantee == "none"
            updates.append(answered(clinic.ask(clinic.train(1))).update)
            (hold,) = [entry for entry in clinic.ledger.entries() if entry.kind == "hold"]
            assert hold.guarantee == "none"
    assert np.array_equal(*updates)


def test_a_whole_site_sends_a_noised_update_and_nothing_else(tmp_path: Path) -> None:
    epochs = ("local_steps = 2", "local_epochs = 2")
    with make_clinic(tmp_path, study=site_study(epochs), policy=make_policy(site_rules())) as clinic:
        assert answered(clinic.ask(clinic.statistics())).sums == {}
        assert answered(clinic.ask(clinic.evaluate(1))).sums == {}
        reply = answered(clinic.ask(clinic.train(1)))
        assert (reply.loss, reply.weight, reply.steps) == (None, 1.0, 1)  # not ceil(rows / batch)
        assert clinic.charged() == 1
        assert clinic.kinds() == ["hold", "reserve", "commit"]


def test_a_whole_site_that_diverges_sends_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal would be an answer about the data that no noise hides."""

    def diverge(*arguments: Any, **named: Any) -> Any:
        raise TrainingDiverged("not finite")

    monkeypatch.setattr(module, "train_locally", diverge)
    with make_clinic(tmp_path, study=site_study(), policy=make_policy(site_rules())) as clinic:
        update = answered(clinic.ask(clinic.train(1))).update
        assert update.shape == clinic.model.shape
        assert 0.1 < update.std() < 10


@pytest.mark.parametrize("place", ["site", "server"])
def test_the_second_guarantee_bounds_the_update(place: str, tmp_path: Path) -> None:
    rules = make_rules(allow_site_noise_at_server=True)
    with make_clinic(tmp_path, study=guaranteed_study(place), policy=make_policy(rules)) as clinic:
        update = answered(clinic.ask(clinic.train(1))).update.astype(np.float64)
        if place == "server":
            assert np.linalg.norm(update) <= 2.0
        else:
            assert np.linalg.norm(update) > 2.0  # noise of deviation 2 in seven values
