"""`vestry-site ledger show | report | verify | import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vestry_client.command_options import (
    DEFAULT_HOME,
    Head,
    Home,
    Json,
    note,
    own_head,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from vestry_client.spending_file import SpendingFile
    from vestry_privacy.accounting import AccountantName
    from vestry_privacy.ledger import Ledger

__all__ = ["app", "import_command", "report", "show", "verify"]

app = typer.Typer(help="The ledger: what was promised and spent.", no_args_is_help=True)


@app.command()
def show(
    last: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the newest N entries.")] = None,
    home: Home = DEFAULT_HOME,
    head: Head = None,
    as_json: Json = False,
) -> None:
    """List the entries, newest last."""
    from vestry_client.home import SiteHome
    from vestry_client.ledger_words import entry_row

    with SiteHome(home, head).open_ledger() as ledger:
        entries = list(ledger.entries())
        lost = ledger.rollback
    shown = entries[-last:] if last else entries
    _warn(lost)
    if as_json:
        print_json({"entries": [entry.model_dump(mode="json") for entry in shown], "lost": lost})
        return
    columns = ("#>", "time (UTC)", "kind", "of", "what")
    print_table(f"{len(shown)} of {len(entries)} entries", columns, map(entry_row, shown))


@app.command()
def report(
    plan: Annotated[
        Path | None,
        typer.Option(metavar="STUDY.toml", help="Also tell how often this study, and a round of it, fits."),
    ] = None,
    prv: Annotated[bool, typer.Option("--prv", help="Also by the PRV accountant; takes a while.")] = False,
    home: Home = DEFAULT_HOME,
    head: Head = None,
    as_json: Json = False,
) -> None:
    """Tell what is claimed, spent and left, per population and study.

    The filter decides. Epsilon of all that was spent, by an accountant, is an estimate; of one study's whole
    plan it is a bound.
    """
    from vestry_client.home import SiteHome
    from vestry_client.ledger_report_tables import population_tables
    from vestry_client.plan_fit import plan_fits
    from vestry_strategies.study import load_study

    study = load_study(plan) if plan is not None else None
    accountants: list[AccountantName] = ["pld", "rdp", *(("prv",) if prv else ())]
    site = SiteHome(home, head)
    with site.open_ledger() as ledger:
        told = ledger.report(accountants)
        fits = {} if study is None else plan_fits(ledger, told, study, site.load_policy())
    _warn(told.lost)
    if as_json:
        more = {} if study is None else {"fits": {name: fit.plain() for name, fit in fits.items()}}
        print_json({**told.plain(), **more})
        return
    if not told.populations:
        say("no population is registered; `vestry-site population register NAME` enters one")
    for population in told.populations:
        for title, columns, rows in population_tables(population, fits.get(population.population.name)):
            print_table(title, columns, rows)


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A ledger or a copy; default: the site's own.")
    ] = None,
    public_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The site's: 64 hexadecimal digits, or a file that holds them."),
    ] = None,
    head: Annotated[
        Path | None, typer.Option("--head", metavar="FILE", help="The ledger's head; default: beside it.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Check every hash, signature and place; needs no site, and changes nothing.

    Names the first entry that does not hold.
    """
    from vestry_client.home import SiteHome, read_public_key
    from vestry_privacy.ledger_errors import LedgerError, LedgerTampered
    from vestry_privacy.ledger_verify import verify_ledger

    key = None if public_key is None else read_public_key(public_key)
    path = file
    if path is None:  # its own: key and head are known, so a head that is gone is found
        site = SiteHome(home, head or own_head())
        path, head = site.ledger, site.head_file
        key = site.load_identity().public_key if key is None else key
    try:
        found = verify_ledger(path, key, head)
    except LedgerError as error:
        if as_json:
            place = {"entry": error.seq, "broken": error.broken} if isinstance(error, LedgerTampered) else {}
            print_json({"ok": False, "error": str(error), **place})
        raise
    if as_json:
        print_json(
            {
                "ok": True,
                "entries": found.entries,
                "newest": found.newest,
                "hash": found.hash,
                "public_key": found.public_key.hex(),
                "fingerprint": found.fingerprint,
                "key_given": key is not None,
                "head_checked": found.head_checked,
                "clock_set_back": list(found.clock_set_back),
                "reconciled": list(found.reconciled),
            }
        )
        return
    say(f"{path}: {found.entries} entries hold, newest {found.newest}, hash {found.hash}")
    say(f"signed by {found.fingerprint}")
    if key is None:
        say("no --public-key was given: this is the file's own key; compare its fingerprint with the site's")
    if not found.head_checked:
        say("its head was not there: whether entries at its end are missing cannot be told; --head names it")
    for what, entries in (("clock set back", found.clock_set_back), ("follow on a loss", found.reconciled)):
        if entries:
            say(f"{what}: entries {', '.join(map(str, entries))}")


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Past spending, TOML or JSON.")],
    reconcile: Annotated[
        bool, typer.Option("--reconcile", help="After a restored backup: charge what was lost, and go on.")
    ] = False,
    home: Home = DEFAULT_HOME,
    head: Head = None,
    as_json: Json = False,
) -> None:
    """Charge what was done to a population's persons outside of this ledger."""
    from vestry_client.home import SiteHome
    from vestry_client.spending_file import load_spending

    spending = load_spending(file)
    with SiteHome(home, head).open_ledger() as ledger:
        _countable(ledger, spending)
        if reconcile:
            ledger.reconcile(spending.note, spending.lost())
        else:
            _import(ledger, spending)
        told = ledger.report(())
    left = {
        found.population.name: {"claimed": found.claimed_epsilon, "left": found.left_epsilon}
        for found in told.populations
        if reconcile or found.population.name in spending.by_population()
    }
    if as_json:
        print_json({"reconciled" if reconcile else "imported": True, "populations": left})
        return
    note(f"{file}: {'reconciled' if reconcile else 'imported'}")
    for name, figures in left.items():
        claimed, rest = figures["claimed"], figures["left"]
        say(f"{name}: the filter counts epsilon {claimed:.4g} as claimed, {rest:.4g} left")


def _countable(ledger: "Ledger", spending: "SpendingFile") -> None:
    """What is written stays, so an event that the filter cannot count must not get in."""
    from vestry_privacy.accounting import renyi_divergence
    from vestry_privacy.ledger_errors import PopulationError

    for name, events in spending.by_population().items():
        population = ledger.population(name)
        if population is None:
            raise PopulationError(f"population {name!r}: is not registered in this ledger")
        for event in events:
            renyi_divergence(event, population.budget.order)


def _import(ledger: "Ledger", spending: "SpendingFile") -> None:
    """All populations, or none: refusals come before the first entry."""
    from vestry_client.spending_file import SpendingFileError
    from vestry_privacy.ledger_entries import Import

    events = spending.by_population()
    if not events:
        raise SpendingFileError("spent: the file charges nothing; write tables [[spent]]")
    imports = [entry for entry in ledger.entries() if isinstance(entry, Import)]
    for name, own in events.items():
        for entry in imports:
            if (entry.population, entry.events, entry.note) == (name, own, spending.note):
                raise SpendingFileError(
                    f"population {name!r}: entry {entry.seq} imported the same already; if it happened "
                    "twice, say so in another note"
                )
    for name, own in events.items():
        ledger.import_spending(name, own, spending.note)


def _warn(lost: str | None) -> None:
    if lost is not None:
        note(
            f"warning: {lost}. Every budget counts as exhausted until `vestry-site ledger import FILE "
            "--reconcile` charges what was lost"
        )
