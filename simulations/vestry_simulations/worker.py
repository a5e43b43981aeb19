"""A worker process: some sites' handlers behind a pipe.

The fork server imports this module (and with it torch) once; workers are forked from it and share its
memory. A worker ends when its pipe closes, so none outlives the coordinator, however that one ends.
"""

import contextlib
import pickle
import queue
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import quote

import torch

from vestry_client.handlers import Site, handle
from vestry_client.policy import SitePolicy
from vestry_client.replies import Replies
from vestry_client.state import SiteStates
from vestry_privacy.identity import IdentityError
from vestry_privacy.ledger_errors import LedgerError
from vestry_privacy.secagg.errors import JournalError
from vestry_simulations.secure_sites import SeatPlan, open_seat
from vestry_simulations.site_ledgers import DATASET, open_site_ledger
from vestry_strategies.orders import Order, Refusal, RefusalCode, Reply
from vestry_strategies.rows import Rows

__all__ = ["VirtualSite", "answer", "make_site", "one_thread", "serve"]


@dataclass(frozen=True)
class VirtualSite:
    """A site of a simulation, as it is sent to its worker.

    Attributes:
        name: of the site.
        rows: its data.
        policy: its rules.
        states: folder for its arrays between rounds, and for its ledger; None keeps them in memory.
        secret: key of its split of persons under [privacy]; of a simulation, so it hides nothing.
        fingerprint: of its rows, for its ledger.
        seat: its part of secure sums, with an identity in its folder; None takes part in none.
    """

    name: str
    rows: Rows
    policy: SitePolicy = field(default_factory=SitePolicy)
    states: Path | None = None
    secret: bytes = b""
    fingerprint: str = ""
    seat: SeatPlan | None = None


def make_site(virtual: VirtualSite) -> Site:
    """The site that the handlers work on.

    Raises:
        LedgerError: the site's ledger cannot be opened or written.
        JournalError: its journal cannot.
        IdentityError: its key cannot be read.
    """
    folder = None if virtual.states is None else virtual.states / quote(virtual.name, safe="")

    def states(study_hash: str) -> SiteStates:
        return SiteStates(None if folder is None else folder / study_hash[:16])

    def replies(study_hash: str) -> Replies:
        return Replies(None if folder is None else folder / study_hash[:16] / "replies")

    seat = None
    if virtual.seat is not None and folder is not None:
        seat = open_seat(virtual.seat, virtual.name, folder)
    return Site(
        name=virtual.name,
        load=lambda study, task: virtual.rows,
        policy=virtual.policy,
        states=states,
        dataset=DATASET,
        ledger=None if folder is None else open_site_ledger(folder, virtual.policy, virtual.fingerprint),
        secret=virtual.secret,
        replies=replies,
        secure=seat,
    )


def answer(own: dict[str, Site], virtual: VirtualSite, order: Order) -> Reply:
    """A site's answer to an order; of a site whose ledger or journal cannot be opened, why.

    Args:
        own: sites that are open; the site is added.
        virtual: who is asked.
        order: what for.
    """
    site = own.get(virtual.name)
    if site is None:
        try:
            site = own[virtual.name] = make_site(virtual)
        except (
            IdentityError,
            LedgerError,
            JournalError,
        ) as error:  # must not take the worker's other sites with it
            code: RefusalCode = "secure" if isinstance(error, JournalError) else "ledger"
            return Refusal(virtual.name, code, str(error))
    return handle(site, order)


def one_thread() -> None:
    """One thread for each process: the same sums whatever the number of workers or cores."""
    torch.set_num_threads(1)


def serve(pipe: Connection, sites: Sequence[VirtualSite]) -> None:
    """Answer batches of orders until the pipe closes.

    A batch is (ticket, names, pickled order); each site's answer goes back as (ticket, reply). When a
    newer ticket has arrived, what is left of an older one is skipped: its deadline is over.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator ends us by closing the pipe
    one_thread()
    known, own = {virtual.name: virtual for virtual in sites}, dict[str, Site]()
    inbox: queue.Queue[tuple[int, list[str], bytes] | None] = queue.Queue()
    newest = [0]

    def receive() -> None:
        # A thread empties the pipe, so that the coordinator never blocks on a busy worker.
        try:
            while True:
                batch = pipe.recv()
                newest[0] = batch[0]
                inbox.put(batch)
        except (EOFError, OSError):
            newest[0] = -1
            inbox.put(None)

    threading.Thread(target=receive, daemon=True).start()
    while (batch := inbox.get()) is not None:
        ticket, names, packed = batch
        order: Order = pickle.loads(packed)  # noqa: S301  made by our own parent process
        for name in names:
            if newest[0] != ticket:
                break
            reply = answer(own, known[name], order)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                pipe.send((ticket, reply))
