"""LocalExchange with real worker processes: same results on any number, deaths, stragglers, no orphans."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.simulations.laboratory import environment, rows, write_csv, write_study
from vestry_client.policy import SitePolicy
from vestry_server.progress import RoundRecord
from vestry_server.rounds import open_run, run_study
from vestry_simulations.engine import LocalExchange, default_workers
from vestry_simulations.faults import Faults
from vestry_simulations.partition import partition_by_column
from vestry_simulations.worker import VirtualSite
from vestry_strategies.orders import DescribeOrder, DescribeReply, Order, Refusal, TrainOrder
from vestry_strategies.rows import Table, read_table
from vestry_strategies.study import StudySpec, load_study

POLICY = SitePolicy(allow_individual_updates=True, allow_training_without_privacy=True, min_examples=1)


class DrowsyPolicy(SitePolicy):
    """A policy that takes its time over every order."""

    seconds: float = 0.0

    def check_study(self, study: StudySpec) -> None:
        time.sleep(self.seconds)
        super().check_study(study)


class DeadlyPolicy(SitePolicy):
    """A policy that kills its process once, when a file is not there yet."""

    marker: str = ""

    def check_study(self, study: StudySpec) -> None:
        marker = Path(self.marker)
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().check_study(study)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudySpec:
    return load_study(write_study(tmp_path_factory.mktemp("engine") / "study.toml"))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    path = write_csv(tmp_path_factory.mktemp("engine") / "data.csv", rows())
    table = read_table(path, ",")
    parts = partition_by_column(table.column("clinic"), "clinic")
    return {name: table.take(indexes) for name, indexes in parts.items()}


def sites(tables: Mapping[str, Table], **policies: SitePolicy) -> list[VirtualSite]:
    return [VirtualSite(name, table, policies.get(name, POLICY)) for name, table in tables.items()]


def run(study: StudySpec, exchange: LocalExchange) -> list[RoundRecord]:
    records: list[RoundRecord] = []
    opened, first = open_run(
        study,
        exchange,
        lambda state: None,
        lambda event: records.append(event) if isinstance(event, RoundRecord) else None,
    )
    run_study(opened, first)
    return records


@pytest.fixture(scope="module")
def expected(study: StudySpec, tables: dict[str, Table]) -> list[RoundRecord]:
    with LocalExchange(sites(tables), 0) as exchange:
        return run(study, exchange)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_nothing(
    workers: int, study: StudySpec, tables: dict[str, Table], expected: list[RoundRecord]
) -> None:
    with LocalExchange(sites(tables), workers) as exchange:
        assert run(study, exchange) == expected


def test_sites_are_dealt_by_size_to_the_lightest_worker() -> None:
    def table(size: int) -> Table:
        return Table({"x": np.full(size, "1")})

    made = [VirtualSite(f"s{size}", table(size)) for size in (50, 30, 20, 10, 5)]
    exchange = LocalExchange(made, 2)
    homes = [sorted(site.name for site in worker.sites) for worker in exchange._workers]
    assert sorted(homes) == [["s10", "s50"], ["s20", "s30", "s5"]]


def test_no_more_workers_than_sites() -> None:
    assert default_workers(1) == 1
    assert 1 <= default_workers(1000) <= (os.cpu_count() or 1)


def test_everybody_says_their_name(tables: dict[str, Table]) -> None:
    with LocalExchange(sites(tables), 2) as exchange:
        assert exchange.sites() == ("north", "south", "west")
        orders: dict[str, Order] = dict.fromkeys(exchange.sites(), DescribeOrder())
        said = list(exchange.send(orders, 30.0))
    assert {reply.site for reply in said if isinstance(reply, DescribeReply)} == {"north", "south", "west"}


def test_a_killed_worker_loses_its_sites_for_a_round_only(
    tmp_path: Path, study: StudySpec, tables: dict[str, Table]
) -> None:
    deadly = DeadlyPolicy(**POLICY.model_dump(), marker=str(tmp_path / "died"))
    (tmp_path / "died").touch()
    with LocalExchange(sites(tables, south=deadly), 3) as exchange:
        opened, first = open_run(study, exchange, lambda state: None, lambda event: None)
        state = run_study(opened, first)
        (tmp_path / "died").unlink()
        order = TrainOrder(study.to_json(), 9, 8, state.model, state.preprocessing)
        orders: dict[str, Order] = dict.fromkeys(exchange.sites(), order)
        died = {reply.site: reply for reply in exchange.send(orders, 60.0)}
        again = {reply.site: reply for reply in exchange.send(orders, 60.0)}
    lost = died["south"]
    assert isinstance(lost, Refusal)
    assert (lost.code, lost.message) == ("lost", "its worker process died")
    assert not any(isinstance(died[name], Refusal) for name in ("north", "west"))
    assert not any(isinstance(reply, Refusal) for reply in again.values())


def test_a_straggler_is_left_behind_and_its_late_reply_never_comes(
    study: StudySpec, tables: dict[str, Table]
) -> None:
    drowsy = DrowsyPolicy(**POLICY.model_dump(), seconds=1.5)
    with LocalExchange(sites(tables, west=drowsy), 3) as exchange:
        opened, first = open_run(study, exchange, lambda state: None, lambda event: None)
        warm: dict[str, Order] = dict.fromkeys(exchange.sites(), DescribeOrder())
        list(exchange.send(warm, 60.0))
        state = _statistics(opened, first)

        def order(number: int) -> dict[str, Order]:
            order = TrainOrder(study.to_json(), number, 0, state.model, state.preprocessing)
            return dict.fromkeys(exchange.sites(), order)

        first_round = {reply.site for reply in exchange.send(order(1), 0.9)}
        second = list(exchange.send(order(2), 30.0))
    assert "west" not in first_round
    assert {getattr(reply, "round", None) for reply in second} == {2}
    assert {reply.site for reply in second} == {"north", "south", "west"}


def _statistics(opened: Any, first: Any) -> Any:
    from vestry_server.rounds import _start

    return _start(opened, first)


def test_large_orders_do_not_lock_up_behind_a_busy_worker(study: StudySpec, tables: dict[str, Table]) -> None:
    drowsy = DrowsyPolicy(**POLICY.model_dump(), seconds=0.7)
    big = np.zeros(2_500_000, dtype=np.float32)
    with LocalExchange(sites(tables, west=drowsy), 1) as exchange:
        for number in (1, 2, 3):
            order = TrainOrder(study.to_json(), number, 0, big)
            orders: dict[str, Order] = dict.fromkeys(exchange.sites(), order)
            started = time.monotonic()
            list(exchange.send(orders, 0.2 if number < 3 else 60.0))
            assert time.monotonic() - started < 60.0


def test_a_silenced_site_is_not_waited_for(study: StudySpec, tables: dict[str, Table]) -> None:
    with LocalExchange(sites(tables), 0, Faults(drop_out=1.0)) as exchange:
        opened, first = open_run(study, exchange, lambda state: None, lambda event: None)
        state = _statistics(opened, first)
        order = TrainOrder(study.to_json(), 1, 0, state.model, state.preprocessing)
        orders: dict[str, Order] = dict.fromkeys(exchange.sites(), order)
        started = time.monotonic()
        assert list(exchange.send(orders, 3600.0)) == []
        assert time.monotonic() - started < 60.0


PARENT = """
import sys, time
from tests.simulations.test_engine import *
if __name__ == "__main__":
    table = read_table(Path(sys.argv[1]), ",")
    parts = partition_by_column(table.column("clinic"), "clinic")
    exchange = LocalExchange([VirtualSite(n, table.take(i), POLICY) for n, i in parts.items()], 2)
    list(exchange.send(dict.fromkeys(exchange.sites(), DescribeOrder()), 60.0))
    print(*[worker.process.pid for worker in exchange._workers], flush=True)
    time.sleep(600)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    write_csv(tmp_path / "data.csv", rows())
    (tmp_path / "parent.py").write_text(PARENT)
    settings = environment()
    settings["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent.parent.parent)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "data.csv")],
        stdout=subprocess.PIPE,
        text=True,
        env=settings,
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_no_worker_outlives_a_killed_parent(parent: "subprocess.Popen[str]") -> None:
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    assert all(_alive(pid) for pid in workers)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while any(_alive(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
