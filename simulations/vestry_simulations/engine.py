"""LocalExchange: hands typed orders to the sites' handlers, on all cores; no encoding, no broker.

A site lives in one worker for the whole run, so its prepared data and its state stay where they are.
Sites are dealt to workers by size, largest first, each to the worker with the least rows so far.
"""

import os
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver, get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import TYPE_CHECKING, Self

from vestry_simulations.faults import Faults
from vestry_strategies.orders import Order, Refusal, Reply, TrainOrder

if TYPE_CHECKING:
    from vestry_client.handlers import Site
    from vestry_simulations.worker import VirtualSite

__all__ = ["LocalExchange", "default_workers", "mp_context", "warm_up"]


def default_workers(sites: int) -> int:
    """One worker for each core this process may use, but no more than sites."""
    return max(1, min(len(os.sched_getaffinity(0)), sites))


def warm_up() -> None:
    """Start the fork server, which imports torch, while the caller does something else."""
    mp_context()
    forkserver.ensure_running()


def mp_context() -> ForkServerContext:
    """Processes forked from a server that has torch loaded: quick to start, sharing its memory."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["vestry_simulations.worker"])
    return context


@dataclass(eq=False)
class _Worker:
    sites: list["VirtualSite"] = field(default_factory=list)
    rows: int = 0
    process: BaseProcess | None = None
    pipe: "connection.Connection | None" = None
    waiting: set[str] = field(default_factory=set)


class LocalExchange:
    """The sites of a simulation in worker processes of this machine.

    Args:
        sites: all of them.
        workers: number of processes; 0 answers in this process, one site after the other.
        faults: train orders that get no answer, on a simulated clock.
    """

    def __init__(self, sites: Sequence["VirtualSite"], workers: int, faults: Faults | None = None) -> None:
        self._names = tuple(sorted(site.name for site in sites))
        self._sites = {site.name: site for site in sites}
        self._faults = faults or Faults()
        self._attempts: dict[int, int] = {}
        self._ticket = 0
        self._local: dict[str, Site] = {}
        self._workers = [_Worker() for _ in range(workers)]
        self._home: dict[str, _Worker] = {}
        if workers:
            for site in sorted(sites, key=lambda site: (-len(site.rows), site.name)):
                worker = min(self._workers, key=lambda worker: worker.rows)
                worker.sites.append(site)
                worker.rows += len(site.rows)
                self._home[site.name] = worker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def sites(self) -> tuple[str, ...]:
        """Names of all sites, sorted."""
        return self._names

    def send(self, orders: Mapping[str, Order], deadline_seconds: float) -> Iterator[Reply]:
        """Send each site its order; yield the replies as they arrive.

        A site that a fault silences is not asked at all, and not waited for.
        """
        orders = self._without_faults(orders, deadline_seconds)
        if self._workers:
            return self._send_to_workers(orders, deadline_seconds)
        return self._answer_here(orders, deadline_seconds)

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            if worker.pipe is not None:
                worker.pipe.close()
        for worker in self._workers:
            if worker.process is not None:
                worker.process.join(timeout=2.0)
                if worker.process.is_alive():
                    worker.process.kill()
                    worker.process.join()
            worker.pipe = worker.process = None
        for site in self._local.values():
            if site.ledger is not None:
                site.ledger.close()
            if site.secure is not None:
                site.secure.journal.close()
        self._local.clear()

    def _without_faults(self, orders: Mapping[str, Order], deadline_seconds: float) -> Mapping[str, Order]:
        rounds = {order.round for order in orders.values() if isinstance(order, TrainOrder)}
        for number in rounds:
            self._attempts[number] = self._attempts.get(number, 0) + 1
        return {
            site: order
            for site, order in orders.items()
            if not isinstance(order, TrainOrder)
            or self._faults.answers(site, order.round, self._attempts[order.round], deadline_seconds)
        }

    def _answer_here(self, orders: Mapping[str, Order], deadline_seconds: float) -> Iterator[Reply]:
        from vestry_simulations.worker import answer, one_thread

        one_thread()
        end = time.monotonic() + deadline_seconds
        for name, order in orders.items():
            reply = answer(self._local, self._sites[name], order)
            if time.monotonic() > end:
                return
            yield reply

    def _send_to_workers(self, orders: Mapping[str, Order], deadline_seconds: float) -> Iterator[Reply]:
        self._ticket += 1
        end = time.monotonic() + deadline_seconds
        packed: dict[int, bytes] = {}
        batches: dict[tuple[int, int], list[str]] = {}
        for name, order in orders.items():
            packed.setdefault(id(order), pickle.dumps(order, protocol=pickle.HIGHEST_PROTOCOL))
            place = self._workers.index(self._home[name])
            batches.setdefault((place, id(order)), []).append(name)
        for worker in self._workers:
            worker.waiting.clear()
        for (place, order_id), names in batches.items():
            worker = self._workers[place]
            self._post(worker, (self._ticket, names, packed[order_id]))
            worker.waiting.update(names)
        while any(worker.waiting for worker in self._workers):
            left = end - time.monotonic()
            if left <= 0:
                return
            yield from self._collect(left)

    def _post(self, worker: _Worker, batch: tuple[int, list[str], bytes]) -> None:
        if worker.process is None or not worker.process.is_alive():
            self._start(worker)
        assert worker.pipe is not None  # noqa: S101  _start has just set it
        try:
            worker.pipe.send(batch)
        except (BrokenPipeError, ConnectionResetError):
            self._start(worker)
            worker.pipe.send(batch)

    def _start(self, worker: _Worker) -> None:
        from vestry_simulations.worker import serve

        context = mp_context()
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, worker.sites), daemon=True)
        process.start()
        theirs.close()
        worker.process, worker.pipe = process, ours

    def _collect(self, seconds: float) -> Iterator[Reply]:
        """Yield what arrives next; a worker that died answers for its sites with a Refusal."""
        pipes = {
            worker.pipe: worker for worker in self._workers if worker.waiting and worker.pipe is not None
        }
        for ready in connection.wait(list(pipes), timeout=seconds):
            worker = pipes[ready]  # type: ignore[index]
            assert worker.pipe is not None  # noqa: S101  it is a key of pipes
            try:
                ticket, reply = worker.pipe.recv()
            except (EOFError, OSError):
                worker.pipe.close()
                worker.pipe = worker.process = None
                for name in sorted(worker.waiting):
                    yield Refusal(name, "lost", "its worker process died")
                worker.waiting.clear()
                continue
            if ticket == self._ticket:
                worker.waiting.discard(reply.site)
                yield reply
