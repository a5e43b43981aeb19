"""Messages that must be refused, each named after the field that is wrong, with the error's code.

They are built by the reference, which has every site's keys: a fault is signed by whom an attacker could have
sign it. `at` says who must refuse: the site with that index, or the server on receiving it from that site.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.privacy.secagg import reference as ref
from tests.privacy.secagg.reference_cases import CASES, make_case, seed
from tests.privacy.secagg.reference_run import Head, RefSite, Run, complaint, perform

__all__ = [
    "Fault",
    "advertised",
    "base",
    "complaints",
    "deliver_faults",
    "delivered",
    "flip",
    "plan_faults",
    "roster_faults",
]


@dataclass(frozen=True)
class Fault:
    """One refusal: feed `run` up to `step`, then `message` in place of the good one."""

    name: str
    run: str
    at: str  # `site` or `server`
    index: int
    step: str
    code: str
    message: bytes
    directory: bytes = b""  # in place of the run's
    words: bytes = b""  # with step `input`
    answer: bytes = b""  # the complaint that a site sends
    seen: tuple[int, Head, Head] | None = None  # a site and the heads of it that were seen before


SMALL_ORDER = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")  # order 8


def flip(message: bytes, at: int) -> bytes:
    changed = bytearray(message)
    changed[at] ^= 1
    return bytes(changed)


def base(name: str) -> Run:
    return perform(make_case(next(wish for wish in CASES if wish.name == name)))


def plan_faults(run: Run) -> Iterator[Fault]:
    case, plan = run.case, run.case.plan

    def fault(name: str, code: str, message: bytes, directory: bytes = b"") -> Fault:
        return Fault(f"plan_bad_{name}", case.name, "site", 0, "plan", code, message, directory)

    def changed(name: str, code: str, **fields: object) -> Fault:
        return fault(name, code, replace(case, plan=replace(plan, **fields)).signed_plan)  # type: ignore[arg-type]

    def encoded(content: bytes) -> bytes:
        return ref.field(content) + ref.signed(content, case.coordinator)[len(content) :]

    yield fault("signature", "signature", flip(case.signed_plan, -1))
    yield fault("signer", "signature", replace(case, coordinator=case.seats[1].identity).signed_plan)
    yield changed("version", "message", version=b"vestry-secagg/2")
    yield changed("type", "message", type="keys")
    yield fault("trailing", "message", encoded(plan.encode() + b"\0"))
    yield fault("truncated", "message", encoded(plan.encode()[:-1]))
    yield changed("threshold", "plan", threshold=plan.threshold - 1)
    yield changed("threshold_high", "plan", threshold=plan.threshold + 1)
    yield changed("least", "plan", least=2)
    yield changed("lane_bits", "plan", lane_bits=20)
    yield changed("lanes", "plan", lanes=4)
    yield changed("neighbours", "plan", neighbours=2)
    yield changed("kind", "plan", kind="sum")
    yield changed("weight_limit", "plan", weight_limit=0)
    yield changed("weight_limit_high", "plan", weight_limit=2**62)
    yield changed("range", "plan", value_range=0.0)
    yield changed("range_nan", "message", value_range=float("nan"))
    yield changed("values", "plan", values=0, wide=0)
    yield changed("roster_size", "plan", roster=plan.roster[:2], threshold=2)
    yield changed("roster_order", "plan", roster=plan.roster[::-1])
    yield changed("roster_repeated", "plan", roster=(plan.roster[0], *plan.roster[:3]))
    yield changed("roster_stranger", "roster", roster=tuple(sorted((*plan.roster[:3], seed("stranger")))))
    yield changed("directory", "roster", directory=plan.directory + 1)
    one = replace(case.seats[1], organisation=case.seats[0].organisation)
    both = replace(case, seats=(case.seats[0], one, *case.seats[2:]))
    yield fault("organisation", "roster", case.signed_plan, both.directory)


def advertised(run: Run, index: int, seal: bytes, mask: bytes) -> bytes:
    """A `keys` message of a site with other keys."""
    site, zero = run.sites[index], ref.u64(0) + ref.u64(0) + ref.field(bytes(32))
    return site.signed(site.header("keys") + ref.field(seal) + ref.field(mask) + zero + zero)


def roster_faults(run: Run) -> Iterator[Fault]:
    keys, site = run.keys, run.sites
    other = [ref.public(seed("other", at)) for at in range(2)]

    def fault(name: str, code: str, message: bytes) -> Fault:
        return Fault(f"roster_bad_{name}", run.case.name, "site", 0, "roster-keys", code, message)

    def changed(name: str, code: str, index: int, message: bytes) -> Fault:
        return fault(name, code, run.relay("roster-keys", {**keys, index: message}))

    def listed(*messages: bytes) -> bytes:
        return ref.header("roster-keys", run.case.plan.hash, ref.SERVER) + ref.listing(messages)

    mask1, mask2 = (ref.public(site[at].mask_private) for at in (1, 2))
    yield changed("signature", "signature", 1, flip(keys[1], -1))
    yield changed("key", "signature", 1, advertised(run, 1, other[0], other[1])[:-64] + keys[1][-64:])
    yield changed("own_keys", "inconsistent", 0, advertised(run, 0, other[0], other[1]))
    yield changed("plan", "message", 1, base("four-keys").keys[2])
    yield changed("duplicate_key", "key", 2, advertised(run, 2, other[0], mask1))
    yield changed("crossed_key", "key", 2, advertised(run, 2, mask1, mask2))
    yield changed("same_pair", "key", 2, advertised(run, 2, mask2, mask2))
    yield changed("zero_seal_key", "key", 2, advertised(run, 2, bytes(32), mask2))
    yield changed("zero_mask_key", "key", 2, advertised(run, 2, other[0], bytes(32)))
    yield changed("small_seal_key", "key", 2, advertised(run, 2, SMALL_ORDER, mask2))
    yield changed("short_key", "message", 2, advertised(run, 2, other[0][:31], mask2))
    yield fault("order", "inconsistent", listed(keys[0], keys[2], keys[1], keys[3]))
    yield fault("repeated", "inconsistent", listed(keys[0], keys[1], keys[1], keys[2]))
    yield fault("too_few", "too-few", listed(keys[0], keys[1]))
    yield fault("own", "inconsistent", listed(keys[1], keys[2], keys[3]))
    yield fault("type", "message", run.relay("survivors", keys))
    yield fault(
        "sender",
        "message",
        ref.header("roster-keys", run.case.plan.hash, 1) + ref.listing(list(keys.values())),
    )
    yield fault("trailing", "message", run.roster_keys + b"\0")
    yield fault("truncated", "message", run.roster_keys[:-1])


def delivered(run: Run, bodies: dict[int, bytes], ciphertexts: dict[int, bytes], to: int = 0) -> bytes:
    rows = [ref.field(body) + ref.field(ciphertexts[dealer]) for dealer, body in bodies.items()]
    return ref.header("deliver", run.case.plan.hash, ref.SERVER) + ref.u32(len(rows)) + b"".join(rows)


def deliver_faults(run: Run) -> Iterator[Fault]:
    bodies, sealed = run.bodies, {dealer: run.ciphertexts[dealer][0] for dealer in run.u2}

    def fault(name: str, code: str, message: bytes) -> Fault:
        return Fault(f"deliver_bad_{name}", run.case.name, "site", 0, "deliver", code, message)

    def body(dealer: int, holders: list[int]) -> bytes:
        site = run.sites[dealer]
        return site.signed(site.deal_body(holders, run.ciphertexts[dealer]))

    yield fault("signature", "signature", delivered(run, {**bodies, 1: flip(bodies[1], -1)}, sealed))
    yield fault("holders", "inconsistent", delivered(run, {**bodies, 1: body(1, [0, 1, 2])}, sealed))
    yield fault("holders_order", "message", delivered(run, {**bodies, 1: body(1, [0, 2, 1, 3])}, sealed))
    yield fault("own", "inconsistent", delivered(run, {at: bodies[at] for at in (1, 2, 3)}, sealed))
    yield fault("own_body", "inconsistent", delivered(run, {**bodies, 0: body(0, [0, 1, 2])}, sealed))
    yield fault("too_few", "too-few", delivered(run, {at: bodies[at] for at in (0, 1)}, sealed))
    yield fault("order", "inconsistent", delivered(run, {at: bodies[at] for at in (0, 2, 1, 3)}, sealed))
    yield fault("ciphertext", "inconsistent", delivered(run, bodies, {**sealed, 1: flip(sealed[1], 5)}))
    yield fault(
        "swapped_ciphertexts", "inconsistent", delivered(run, bodies, {**sealed, 1: sealed[2], 2: sealed[1]})
    )
    yield fault("own_ciphertext", "inconsistent", delivered(run, bodies, {**sealed, 0: sealed[1]}))
    yield fault("trailing", "message", run.deliver[0] + b"\0")
    yield fault("sender", "message", run.deliver[0].replace(ref.u32(ref.SERVER), ref.u32(1), 1))


def misdealt(run: Run, how: str) -> tuple[bytes, bytes, bytes]:
    """Site 1 deals badly to site 0: its signed body, the ciphertext, and the complaint that convicts it."""
    bad = RefSite(run.case, 1)
    seals = {site.index: ref.public(site.seal_private) for site in run.sites}
    bad.deal(seals)
    key, plain = bad.deal_keys[0], bad.given["self-mask"][0] + bad.given["pair-mask"][0]
    ciphertexts = dict(run.ciphertexts[1])
    if how == "share":
        ciphertexts[0] = ref.seal(key, bad.hash, 1, 0, flip(plain, 32))
    elif how == "pair_share":
        ciphertexts[0] = ref.seal(key, bad.hash, 1, 0, flip(plain, -1))
    elif how == "big_share":
        above = (ref.PRIME + 1).to_bytes(33, "big")
        bad.given["self-mask"][0] = above
        ciphertexts[0] = ref.seal(key, bad.hash, 1, 0, above + plain[33:])
    elif how == "short_plaintext":
        ciphertexts[0] = ref.seal(key, bad.hash, 1, 0, plain[:65])
    elif how == "unsealed":
        ciphertexts[0] = flip(ciphertexts[0], 0)
    elif how == "seal_key":
        bad.deal_keys[0] = seed("another key")
    reason = {"unsealed": "unsealed", "seal_key": "seal-key"}.get(how, "share")
    body = bad.signed(bad.deal_body([0, 1, 2, 3], ciphertexts))
    return body, ciphertexts[0], complaint(run.sites[0], 1, reason, key, ciphertexts[0])


def complaints(run: Run) -> Iterator[Fault]:
    name, sealed = run.case.name, {dealer: run.ciphertexts[dealer][0] for dealer in run.u2}
    for how in ("share", "pair_share", "big_share", "short_plaintext", "unsealed", "seal_key"):
        body, ciphertext, answer = misdealt(run, how)
        message = delivered(run, {**run.bodies, 1: body}, {**sealed, 1: ciphertext})
        yield Fault(f"deliver_bad_{how}", name, "site", 0, "deliver", "dealing", message, answer=answer)
    key = run.sites[1].deal_keys[0]
    for how, reason, opened in (
        ("false", "share", key),
        ("false_key", "seal-key", key),
        ("false_unsealed", "unsealed", key),
        ("opened_key", "unsealed", seed("another key")),
    ):
        message = complaint(run.sites[0], 1, reason, opened, sealed[1])
        yield Fault(f"complaint_bad_{how}", name, "server", 0, "ready", "dealing", message)
    false = complaint(run.sites[0], 1, "share", key, sealed[1])
    yield Fault("complaint_bad_signature", name, "server", 0, "ready", "signature", flip(false, -1))
    false = complaint(run.sites[0], 1, "boredom", key, sealed[1])
    yield Fault("complaint_bad_reason", name, "server", 0, "ready", "dealing", false)
