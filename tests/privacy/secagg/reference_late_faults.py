"""More messages that must be refused: survivors, unmasking, heads, and what a site sends to the server."""

from collections.abc import Iterator

from tests.privacy.secagg import reference as ref
from tests.privacy.secagg.reference_cases import seed
from tests.privacy.secagg.reference_faults import (
    Fault,
    advertised,
    base,
    complaints,
    deliver_faults,
    delivered,
    flip,
    plan_faults,
    roster_faults,
)
from tests.privacy.secagg.reference_run import RefSite, Run

__all__ = ["all_faults"]


def all_faults() -> Iterator[Fault]:
    """Every message that must be refused."""
    four = base("four")
    yield from plan_faults(four)
    yield from roster_faults(four)
    yield from head_faults(four)
    yield from deliver_faults(four)
    yield from complaints(four)
    yield from survivor_faults(four)
    yield from unmask_faults(four)
    yield from server_faults(four)
    yield from absent_faults()


def run_keys(run: Run, index: int) -> tuple[bytes, bytes]:
    site = run.sites[index]
    return ref.public(site.seal_private), ref.public(site.mask_private)


def head_faults(run: Run) -> Iterator[Fault]:
    """Good messages, refused because site 1 has shown newer heads before."""
    journal, ledger = run.case.seats[1].journal, run.case.seats[1].ledger
    seen = {
        "journal_count": ((journal[0], journal[1] + 1, seed("newer")), ledger),
        "journal_epoch": ((journal[0] + 1, 1, seed("newer")), ledger),
        "journal_branch": ((journal[0], journal[1], seed("other")), ledger),
        "ledger_count": (journal, (ledger[0], ledger[1] + 1, seed("newer"))),
    }
    for name, (first, second) in seen.items():
        known = (1, first, second)
        yield Fault(
            f"roster_bad_{name}",
            run.case.name,
            "site",
            0,
            "roster-keys",
            "rolled-back",
            run.roster_keys,
            seen=known,
        )
        yield Fault(
            f"keys_bad_{name}", run.case.name, "server", 1, "keys", "rolled-back", run.keys[1], seen=known
        )


def survivor_faults(run: Run) -> Iterator[Fault]:
    inputs, second = run.input, run.u2

    def fault(name: str, code: str, message: bytes) -> Fault:
        return Fault(f"survivors_bad_{name}", run.case.name, "site", 0, "survivors", code, message)

    def changed(name: str, code: str, index: int, message: bytes) -> Fault:
        return fault(name, code, run.relay("survivors", {**inputs, index: message}))

    def listed(*indexes: int) -> bytes:
        ordered = [inputs[index] for index in indexes]
        return ref.header("survivors", run.case.plan.hash, ref.SERVER) + ref.listing(ordered)

    other = [(word + 1) % ref.WORD for word in run.masked[1]]
    stale = ref.field(ref.hashed(ref.u32s(second))) + ref.field(ref.hashed(ref.words_bytes(other)))
    digest = run.sites[1].header("input") + ref.u64(len(other)) + stale
    yield changed("signature", "signature", 1, flip(inputs[1], -1))
    yield changed("digest", "signature", 1, digest + inputs[1][-68:])
    yield changed("own_digest", "inconsistent", 0, run.sites[0].input_header(second, other))
    yield changed("u2", "inconsistent", 1, run.sites[1].input_header([0, 1, 2], run.masked[1]))
    yield changed("words", "inconsistent", 1, run.sites[1].input_header(second, run.masked[1][:-1]))
    yield fault("own", "inconsistent", listed(1, 2, 3))
    yield fault("too_few", "too-few", listed(0, 1))
    yield fault("order", "inconsistent", listed(0, 2, 1, 3))
    yield fault("repeated", "inconsistent", listed(0, 1, 1, 2))
    yield fault("type", "message", run.relay("unmask", inputs))
    yield fault("trailing", "message", run.survivors + b"\0")


def unmask_faults(run: Run) -> Iterator[Fault]:
    views, second, digests = run.consistent, run.u2, run.digests()

    def fault(name: str, code: str, message: bytes) -> Fault:
        return Fault(name, run.case.name, "site", 0, "unmask", code, message)

    def listed(*indexes: int) -> bytes:
        ordered = [views[index] for index in indexes]
        return ref.header("unmask", run.case.plan.hash, ref.SERVER) + ref.listing(ordered)

    def changed(view: bytes) -> bytes:
        return run.relay("unmask", {**views, 1: view})

    fewer = {index: digests[index] for index in (0, 1, 2)}
    yield fault("consistent_bad_signature", "signature", changed(flip(views[1], -1)))
    yield fault("consistent_bad_view", "inconsistent", changed(run.sites[1].consistent(second, fewer)))
    yield fault("consistent_bad_u2", "inconsistent", changed(run.sites[1].consistent([0, 1, 2], digests)))
    yield fault("consistent_bad_type", "message", changed(run.input[1]))
    yield fault("unmask_bad_too_few", "too-few", listed(0, 1))
    yield fault("unmask_bad_repeated", "inconsistent", listed(0, 1, 1))
    yield fault("unmask_bad_order", "inconsistent", listed(0, 2, 1))
    yield fault("unmask_bad_trailing", "message", run.unmask + b"\0")
    yield fault("unmask_bad_plan", "message", ref.header("unmask", seed("p"), ref.SERVER) + run.unmask[-4:])


def server_faults(run: Run) -> Iterator[Fault]:
    name, site = run.case.name, run.sites[1]

    def fault(label: str, step: str, code: str, message: bytes, words: bytes = b"") -> Fault:
        return Fault(label, name, "server", 1, step, code, message, words=words)

    def shares(body: bytes, *ciphertexts: bytes) -> bytes:
        return ref.field(body) + ref.listing(ciphertexts)

    sealed = [run.ciphertexts[1][at] for at in (0, 2, 3)]
    words = ref.words_bytes(run.masked[1])
    part = [run.sites[1].held["self-mask"][dealer] for dealer in run.u2]
    swapped = site.signed(site.header("revealed") + ref.field(b"".join(part[::-1])))
    short = site.signed(site.header("revealed") + ref.field(b"".join(part[:-1])))
    dropped = [
        (site.held["pair-mask"] if dealer == 3 else site.held["self-mask"])[dealer] for dealer in run.u2
    ]
    pair = site.signed(site.header("revealed") + ref.field(b"".join(dropped)))
    body = site.signed(site.deal_body([0, 1, 2], run.ciphertexts[1]))
    yield fault("keys_bad_signature", "keys", "signature", flip(run.keys[1], -1))
    yield fault("keys_bad_sender", "keys", "inconsistent", run.keys[2])
    yield fault("keys_bad_plan", "keys", "message", base("four-keys").keys[2])
    yield fault("keys_bad_trailing", "keys", "message", run.keys[1] + b"\0")
    both = advertised(run, 1, ref.public(site.mask_private), ref.public(site.mask_private))
    zero = advertised(run, 1, bytes(32), ref.public(site.mask_private))
    yield fault("keys_bad_same_pair", "keys", "key", both)
    yield fault("keys_bad_duplicate", "keys", "key", advertised(run, 1, *run_keys(run, 0)))
    yield fault("keys_bad_zero", "keys", "key", zero)
    yield fault("shares_bad_signature", "shares", "signature", shares(flip(run.bodies[1], -1), *sealed))
    yield fault("shares_bad_holders", "shares", "inconsistent", shares(body, *sealed))
    yield fault(
        "shares_bad_ciphertext", "shares", "dealing", shares(run.bodies[1], *sealed[:2], flip(sealed[2], 0))
    )
    yield fault("shares_bad_count", "shares", "message", shares(run.bodies[1], *sealed[:2]))
    yield fault("ready_bad_type", "ready", "message", run.keys[1])
    yield fault("input_bad_signature", "input", "signature", flip(run.input[1], -1), words)
    yield fault("input_bad_digest", "input", "inconsistent", run.input[1], flip(words, 9))
    yield fault("input_bad_words", "input", "inconsistent", run.input[1], words[:-8])
    stale = site.input_header([0, 1, 2], run.masked[1])
    yield fault("input_bad_u2", "input", "inconsistent", stale, words)
    view = site.consistent(run.u2, {at: run.digests()[at] for at in (0, 1, 2)})
    yield fault("consistent_bad_view_at_server", "consistent", "inconsistent", view)
    yield fault("revealed_bad_signature", "revealed", "signature", flip(run.revealed[1], -1))
    yield fault("revealed_bad_share", "revealed", "share", swapped)
    yield fault("revealed_bad_kind", "revealed", "share", pair)
    yield fault("revealed_bad_length", "revealed", "message", short)


def absent_faults() -> Iterator[Fault]:
    """Sites outside U1, U2 and U3 that turn up again."""
    run = base("five-shares")  # the last site has keys, no shares
    late = run.sites[4].input_header(run.u2, run.masked[0])
    message = run.relay("survivors", {**run.input, 4: late})
    yield Fault("survivors_bad_member", run.case.name, "site", 0, "survivors", "inconsistent", message)
    run = base("four-input")  # site 2 shares and does not answer
    view = run.sites[2].consistent(run.u2, run.digests())
    message = run.relay("unmask", {**run.consistent, 2: view})
    yield Fault("unmask_bad_member", run.case.name, "site", 0, "unmask", "inconsistent", message)
    run = base("four-keys")  # site 1 never came
    site = RefSite(run.case, 1)
    body, ciphertexts = site.deal({at: ref.public(run.sites[at].seal_private) for at in range(4)})
    message = delivered(
        run,
        dict(sorted({**run.bodies, 1: body}.items())),
        {
            **{dealer: run.ciphertexts[dealer][0] for dealer in run.u2},
            1: ciphertexts[0],
        },
    )
    yield Fault("deliver_bad_member", run.case.name, "site", 0, "deliver", "inconsistent", message)
