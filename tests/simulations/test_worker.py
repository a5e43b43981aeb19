"""A worker's side of the pipe, and where a site keeps its state."""

import multiprocessing
import pickle
import threading
from pathlib import Path

import numpy as np
import torch

from tests.client.bench import OPEN, make_bench, make_table
from tests.strategies.samples import FULL_BATCH, private_study
from vestry_client.handlers import Site
from vestry_simulations.secure_sites import SeatPlan, make_directory
from vestry_simulations.site_ledgers import private_policy
from vestry_simulations.worker import VirtualSite, answer, make_site, one_thread, serve
from vestry_strategies.orders import DescribeOrder, DescribeReply, Refusal, TrainReply

BENCH = make_bench()


def test_batches_are_answered_until_the_pipe_closes() -> None:
    ours, theirs = multiprocessing.Pipe()
    sites = [VirtualSite(name, make_table(), OPEN) for name in ("a", "b")]
    process = multiprocessing.get_context("forkserver").Process(target=serve, args=(theirs, sites))
    process.start()
    theirs.close()
    ours.send((1, ["b", "a"], pickle.dumps(DescribeOrder())))
    assert ours.recv() == (1, DescribeReply("b"))
    assert ours.recv() == (1, DescribeReply("a"))
    ours.send((2, ["a"], pickle.dumps(BENCH.train_order())))
    ticket, reply = ours.recv()
    assert ticket == 2
    assert isinstance(reply, TrainReply)
    ours.close()
    process.join(20)
    assert process.exitcode == 0


def test_a_site_keeps_its_state_in_a_folder_of_its_own(tmp_path: Path) -> None:
    keep = ("learning_rate = 0.1", 'learning_rate = 0.1\nmomentum = 0.9\noptimizer_state = "keep"')
    bench = make_bench(keep)
    for name in ("a/../b", "ü"):
        site = make_site(VirtualSite(name, make_table(), OPEN, tmp_path))
        states = site.states(bench.study.digest())
        states.keep(1, 0, {"x": np.ones(1)})
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders == ["%C3%BC", "a%2F..%2Fb"]
    assert all(len(list(path.rglob("000001.safetensors"))) == 1 for path in tmp_path.iterdir())


def test_without_a_folder_state_stays_in_memory() -> None:
    states = make_site(VirtualSite("a", make_table(), OPEN)).states("x" * 64)
    states.keep(1, 0, {"x": np.ones(1)})
    assert states.before(2)["x"].tolist() == [1.0]


def test_one_thread() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    def work() -> None:
        one_thread()
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    torch.set_num_threads(before)
    assert seen == [1]


def test_a_broken_ledger_stops_its_own_site_and_not_its_neighbour(tmp_path: Path) -> None:
    study = private_study(FULL_BATCH, ('unit_column = "patient"', 'unit_column = "row"'))
    policy = private_policy(study, 60, OPEN.model_dump(include={"allow_individual_updates"}))
    sites = {name: VirtualSite(name, make_table(), policy, tmp_path, b"secret", "ab" * 32) for name in "ab"}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "ledger.sqlite").write_bytes(b"no ledger" * 1000)
    own: dict[str, Site] = {}
    replies = {name: answer(own, site, DescribeOrder()) for name, site in sites.items()}
    assert isinstance(replies["a"], Refusal)
    assert replies["a"].code == "ledger"
    assert replies["b"] == DescribeReply("b")
    assert set(own) == {"b"}
    (tmp_path / "a" / "ledger.sqlite").unlink()
    assert answer(own, sites["a"], DescribeOrder()) == DescribeReply("a")
    for site in own.values():
        assert site.ledger is not None
        site.ledger.close()


def test_a_broken_journal_stops_its_own_site_and_not_its_neighbour(tmp_path: Path) -> None:
    directory = make_directory(tmp_path, ["a", "b", "c"])
    folder, seat = tmp_path / "sites", SeatPlan(directory, 5)
    (folder / "a" / "journal.sqlite").write_bytes(b"no journal" * 1000)
    own: dict[str, Site] = {}
    replies = {
        name: answer(own, VirtualSite(name, make_table(), OPEN, folder, seat=seat), DescribeOrder())
        for name in "ab"
    }
    assert isinstance(replies["a"], Refusal)
    assert replies["a"].code == "secure"
    assert replies["b"] == DescribeReply("b")
    site = own["b"]
    assert site.secure is not None
    assert site.secure.directory == directory
    site.secure.journal.close()


def test_a_site_without_a_folder_has_no_seat() -> None:
    assert make_site(VirtualSite("a", make_table(), OPEN)).secure is None
