"""The coordinator's database on real SQLite files: idempotent, atomic, readable errors."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vestry_server.progress import RoundRecord
from vestry_server.store import SCHEMA_REVISION, Store, StoreError, open_store
from vestry_simulations.datasets import heart_study
from vestry_strategies.study import StudySpec, load_study

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
STUDY = load_study(heart_study())


def record(number: int, auc: float | None = 0.5) -> RoundRecord:
    return RoundRecord(
        round=number,
        loss=1.0 / number,
        metrics={"auc": auc, "loss": 0.25},
        per_site={"a": {"auc": auc}, "b": {"auc": None}},
        sites=("a", "b"),
        left_out={"c": "no reply before the deadline"},
        attempt=1,
        model_hash=f"{number:064x}",
        bytes_up=8,
        bytes_down=16,
    )


def start(store: Store, run_id: str = "run", study: StudySpec = STUDY) -> None:
    store.start_run(run_id, study, kind="simulation", insecure=("x = y",), started=NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vestry.sqlite"


def test_a_new_database_is_empty_and_opens_again(path: Path) -> None:
    assert open_store(path).runs() == []
    assert open_store(path).runs() == []


def test_a_run_goes_in_and_comes_out(path: Path) -> None:
    store = open_store(path)
    start(store)
    store.record_round("run", record(1), NOON, 0.5)
    store.add_model("run", 1, "ab" * 32, "model.safetensors", alias="final")
    store.finish_run("run", "finished", NOON, reason="")
    store.close()
    again = open_store(path)
    (run,) = again.runs()
    assert (run.run_id, run.status, run.insecure) == ("run", "finished", ("x = y",))
    assert run.study_hash == STUDY.digest()
    assert run.started == NOON
    assert run.finished == NOON
    assert again.run("run") == run
    assert again.rounds("run") == [record(1)]
    (model,) = again.models("run")
    assert (model.alias, model.round, model.sha256) == ("final", 1, "ab" * 32)


def test_a_round_under_privacy_keeps_epsilon_and_no_loss(path: Path) -> None:
    store = open_store(path)
    start(store)
    for number in (1, 2):
        store.record_round("run", replace(record(number), loss=None, epsilon=number / 2), NOON, 0.5)
    assert store.metrics("run", "epsilon") == {"": [(1, 0.5), (2, 1.0)]}
    assert store.metrics("run", "training_loss") == {"": [(1, None), (2, None)]}
    assert [kept.epsilon for kept in store.rounds("run")] == [0.5, 1.0]
    start(store, "plain")
    store.record_round("plain", record(1), NOON, 0.5)
    assert store.metrics("plain", "epsilon") == {}


def test_metrics_are_kept_by_site_and_for_all(path: Path) -> None:
    store = open_store(path)
    start(store)
    for number in (1, 2):
        store.record_round("run", record(number, auc=number / 10), NOON, 0.5)
    assert store.metrics("run", "auc") == {
        "": [(1, 0.1), (2, 0.2)],
        "a": [(1, 0.1), (2, 0.2)],
        "b": [(1, None), (2, None)],
    }
    assert store.metrics("run", "training_loss") == {"": [(1, 1.0), (2, 0.5)]}
    assert store.metrics("run", "unknown") == {}


def test_a_round_recorded_again_replaces_itself(path: Path) -> None:
    store = open_store(path)
    start(store)
    store.record_round("run", record(1, auc=0.1), NOON, 0.5)
    store.record_round("run", record(1, auc=0.9), NOON, 0.5)
    assert store.rounds("run") == [record(1, auc=0.9)]
    assert store.metrics("run", "auc")["a"] == [(1, 0.9)]


def test_rewind_drops_later_rounds_with_their_metrics(path: Path) -> None:
    store = open_store(path)
    start(store)
    for number in (1, 2, 3):
        store.record_round("run", record(number), NOON, 0.5)
    store.rewind("run", 1)
    assert [r.round for r in store.rounds("run")] == [1]
    assert store.metrics("run", "auc")["a"] == [(1, 0.5)]


def test_runs_do_not_touch_each_other(path: Path) -> None:
    store = open_store(path)
    start(store, "one")
    start(store, "two")
    store.record_round("one", record(1), NOON, 0.5)
    store.rewind("two", 0)
    assert len(store.rounds("one")) == 1
    assert store.rounds("two") == []


def test_a_model_of_the_same_alias_replaces_the_earlier_one(path: Path) -> None:
    store = open_store(path)
    start(store)
    store.add_model("run", 1, "aa" * 32, "x", alias="best")
    store.add_model("run", 2, "bb" * 32, "y", alias="best")
    (model,) = store.models("run")
    assert (model.round, model.sha256, model.path) == (2, "bb" * 32, "y")


def test_a_run_that_goes_on_is_running_again(path: Path) -> None:
    store = open_store(path)
    start(store)
    store.finish_run("run", "failed", NOON, reason="StoreError")
    assert store.run("run").reason == "StoreError"
    start(store)
    run = store.run("run")
    assert (run.status, run.reason, run.finished) == ("running", "", None)


def test_a_run_cannot_change_its_study(path: Path) -> None:
    store = open_store(path)
    start(store)
    with pytest.raises(StoreError, match="start a new run"):
        start(store, study=STUDY.with_changes(seed=99))


def test_an_unknown_run_is_refused_everywhere(path: Path) -> None:
    store = open_store(path)
    for call in (
        lambda: store.run("no"),
        lambda: store.rounds("no"),
        lambda: store.models("no"),
        lambda: store.metrics("no", "auc"),
        lambda: store.rewind("no", 1),
        lambda: store.record_round("no", record(1), NOON, 0.5),
        lambda: store.finish_run("no", "failed", NOON),
        lambda: store.add_model("no", 1, "", "", alias="best"),
    ):
        with pytest.raises(StoreError, match="has no run 'no'"):
            call()
    assert store.runs() == []


def test_a_moment_without_a_time_zone_is_a_defect(path: Path) -> None:
    store = open_store(path)
    naive = NOON.replace(tzinfo=None)
    with pytest.raises((StoreError, ValueError)):
        store.start_run("run", STUDY, kind="simulation", insecure=(), started=naive)
    assert store.runs() == []


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["record", "rewind"]), st.integers(min_value=1, max_value=4)),
        max_size=12,
    )
)
def test_any_course_of_records_and_rewinds_leaves_the_truth(
    tmp_path_factory: pytest.TempPathFactory, course: list[tuple[str, int]]
) -> None:
    store = open_store(tmp_path_factory.mktemp("store") / "s.sqlite")
    start(store)
    truth: dict[int, RoundRecord] = {}
    for step, (what, number) in enumerate(course):
        if what == "record":
            truth[number] = record(number, auc=step / 100)
            store.record_round("run", truth[number], NOON, 0.1)
        else:
            truth = {n: r for n, r in truth.items() if n <= number}
            store.rewind("run", number)
    assert store.rounds("run") == [truth[number] for number in sorted(truth)]
    expected = [(number, truth[number].metrics["auc"]) for number in sorted(truth)]
    assert store.metrics("run", "auc").get("", []) == expected
    store.close()


def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    open_store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match=r"revision '9999'.*version of Vestry that wrote it"):
        open_store(path)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"this is no database, and long enough to be looked at" * 50)
    with pytest.raises(StoreError, match="no SQLite file"):
        open_store(path)


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="check the path"):
        open_store(tmp_path)


def test_a_url_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(StoreError, match="no database URL"):
        open_store("nothing://here")


def test_the_disk_is_asked_for_full_durability(path: Path) -> None:
    store = open_store(path)
    with store._engine.connect() as connection:
        for pragma, value in (("synchronous", 2), ("foreign_keys", 1), ("journal_mode", "wal")):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_a_url_and_a_path_name_the_same_database(path: Path) -> None:
    start(open_store(path))
    assert [run.run_id for run in open_store(f"sqlite:///{path}").runs()] == ["run"]


def _open_and_write(path: str, name: str) -> None:
    store = open_store(path)
    start(store, name)
    for number in range(1, 6):
        store.record_round(name, record(number), NOON, 0.1)


def test_processes_share_a_database_from_the_first_moment_on(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_open_and_write, args=(str(path), f"run-{i}")) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    store = open_store(path)
    assert [len(store.rounds(f"run-{i}")) for i in range(3)] == [5, 5, 5]


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.11])
def test_a_killed_writer_leaves_whole_rounds(path: Path, delay: float) -> None:
    start(open_store(path))
    program = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('s', {str(Path(__file__))!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "store = module.open_store(sys.argv[1]); number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    store.record_round('run', module.record(number), module.NOON, 0.1)\n"
        "    print(number, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "1\n"
    time.sleep(delay)
    writer.send_signal(signal.SIGKILL)
    told = writer.stdout.read().split()
    writer.wait()
    writer.stdout.close()
    store = open_store(path)
    rounds = [r.round for r in store.rounds("run")]
    assert rounds == list(range(1, len(rounds) + 1))
    assert len(rounds) >= int(told[-1] if told else 1)
    for name, sites in (("auc", ["", "a", "b"]), ("training_loss", [""])):
        course = store.metrics("run", name)
        assert sorted(course) == sites
        assert all([number for number, _ in values] == rounds for values in course.values())


def test_the_revision_in_the_code_is_the_newest_migration() -> None:
    from vestry_server.migrate import known_revisions

    assert max(known_revisions()) == SCHEMA_REVISION
