"""`vestry-site journal status | declare-lost`."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from vestry_client.command_options import DEFAULT_HOME, Head, Home, Json, note, print_json, print_table, say

if TYPE_CHECKING:
    from vestry_privacy.secagg.history import Head as JournalHead
    from vestry_privacy.secagg.journal_report import JournalReport

__all__ = ["app", "declare_lost_command", "in_words", "status"]

app = typer.Typer(
    help="The journal of secure aggregation: what this site has sent and signed.", no_args_is_help=True
)

_STAGES = {
    "accepted": "begun, nothing of the data left",
    "consumed": "masked input may have left",
    "signed": "survivors signed",
    "revealed": "shares may have left",
}


@app.command()
def status(home: Home = DEFAULT_HOME, head: Head = None, as_json: Json = False) -> None:
    """Tell whether the journal is whole, and what is in it; or what is wrong, and the way out."""
    from vestry_client.home import SiteHome
    from vestry_privacy.secagg.errors import JournalError

    site = SiteHome(home, head)
    site.load_identity()  # where there is no site, that is the news
    try:
        with site.open_journal() as journal:
            told = journal.report()
    except JournalError as error:
        if as_json:
            print_json({"ok": False, "rule": error.rule, "error": str(error)})
        raise
    if as_json:
        print_json({"ok": True, **told.plain()})
        return
    say(f"{site.journal}: whole")
    print_table("", ("what", "is"), in_words(told))
    if told.peers:
        rows = [
            (f"{peer.hex()[:16]}…", _shown(journal_head), _shown(ledger_head))
            for peer, (journal_head, ledger_head) in sorted(told.peers.items())
        ]
        print_table("the newest that was seen of other sites", ("key hash", "journal", "ledger"), rows)


@app.command("declare-lost")
def declare_lost_command(
    reason: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="What happened; stays in the journal.")
    ],
    home: Home = DEFAULT_HOME,
    head: Head = None,
    as_json: Json = False,
) -> None:
    """Go on although entries of the journal are lost; the other sites see that.

    What can be read is kept, a damaged file is set aside. Look for the newest copy before.
    """
    from vestry_client.home import SiteHome
    from vestry_privacy.secagg.journal_loss import declare_lost

    site = SiteHome(home, head)
    site.load_identity()
    done = declare_lost(site.journal, reason, head=site.journal_head, patience=site.patience)
    if as_json:
        print_json(
            {
                "epoch": done.head.epoch,
                "count": done.head.count,
                "hash": done.head.hash.hex(),
                "kept": done.kept,
                "set_aside": [str(path) for path in done.set_aside],
            }
        )
        return
    for path in done.set_aside:
        note(f"{path}: what is left of the damaged journal")
    kept = "its entries are kept" if done.kept else "it is empty"
    say(f"{site.journal}: epoch {done.head.epoch} begins; {kept}")
    note(
        "Models and rosters of lost entries are not recognised any more. Tell the other sites what happened: "
        "they see the new epoch and take it."
    )


def in_words(told: "JournalReport") -> Iterator[tuple[str, str]]:
    """What a journal holds: pairs of a question and its answer."""
    yield "newest entry", _shown(told.head)
    yield "its hash", told.head.hash.hex()
    for stage, number in told.plans.items():
        yield f"sums: {_STAGES[stage]}", str(number)
    repeated = f", {told.repeated} of them more than once" if told.repeated else ""
    yield "models with this site's input", f"{told.keys}{repeated}"
    for loss in told.losses:
        when = datetime.fromtimestamp(loss.time / 1000, UTC)
        yield f"epoch {loss.epoch} since", f"{when:%Y-%m-%d %H:%M} UTC, a declared loss: {loss.note}"


def _shown(head: "JournalHead") -> str:
    return f"{head.count}" if head.epoch == 0 else f"{head.count} of epoch {head.epoch}"
