"""A whole sum by the reference implementation: from seeds to every message and the sum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tests.privacy.secagg import reference as ref

__all__ = ["STEPS", "Case", "Head", "RefSite", "Run", "Seat", "complaint", "perform"]

STEPS = ("keys", "shares", "input", "consistent", "revealed")  # the first that a leaving site no longer sends
Head = tuple[int, int, bytes]
NO_HEAD: Head = (0, 0, bytes(32))


@dataclass(frozen=True)
class Seat:
    """All that a site brings to a sum. Its place in a case's `seats` is its index."""

    name: str
    organisation: str
    identity: bytes
    entropy: bytes
    rounding: bytes
    journal: Head
    ledger: Head
    values: tuple[float, ...]
    weight: int
    wide: tuple[float, ...]
    leaves: str = ""
    spoils: str = (
        ""  # `self-mask` or `pair-mask`: deals, and commits to, shares of another secret than its own
    )

    @property
    def member(self) -> ref.Member:
        return ref.Member(self.name, self.organisation, ref.verifying_key(self.identity))

    def stays(self, step: str) -> bool:
        return not self.leaves or STEPS.index(step) < STEPS.index(self.leaves)


@dataclass(frozen=True)
class Case:
    """A plan, its seats and the coordinator's identity seed."""

    name: str
    about: str
    plan: ref.RefPlan
    seats: tuple[Seat, ...]
    coordinator: bytes

    @property
    def directory(self) -> bytes:
        key = ref.verifying_key(self.coordinator)
        return ref.directory(self.plan.directory, key, [seat.member for seat in self.seats])

    @property
    def signed_plan(self) -> bytes:
        encoded = self.plan.encode()
        signature = ref.signed(encoded, self.coordinator)[len(encoded) :]
        return ref.field(encoded) + signature


class RefSite:
    """One site: its secrets, and its messages in the order of the document."""

    def __init__(self, case: Case, index: int) -> None:
        self.case, self.index, self.seat = case, index, case.seats[index]
        self.hash = case.plan.hash
        self.draw: Callable[[int], bytes] = ref.stream(self.seat.entropy)
        self.seal_private, self.mask_private = self.draw(32), self.draw(32)
        self.self_mask = b""
        self.deal_keys: dict[int, bytes] = {}  # this site's keys for sealing, by holder
        self.given: dict[str, dict[int, bytes]] = {}  # this site's shares of its own secrets, by holder
        self.held: dict[str, dict[int, bytes]] = {"self-mask": {}, "pair-mask": {}}  # by dealer

    def header(self, kind: str) -> bytes:
        return ref.header(kind, self.hash, self.index)

    def signed(self, body: bytes) -> bytes:
        return ref.signed(body, self.seat.identity)

    def keys(self) -> bytes:
        heads = b"".join(
            ref.u64(epoch) + ref.u64(count) + ref.field(chain)
            for epoch, count, chain in (self.seat.journal, self.seat.ledger)
        )
        publics = ref.field(ref.public(self.seal_private)) + ref.field(ref.public(self.mask_private))
        return self.signed(self.header("keys") + publics + heads)

    def deal(self, seals: dict[int, bytes]) -> tuple[bytes, dict[int, bytes]]:
        """The signed body and the ciphertexts by holder; `seals` are the public keys c of U1."""
        self.self_mask = self.draw(32)
        threshold, holders = self.case.plan.threshold, sorted(seals)
        secrets = {"self-mask": self.self_mask, "pair-mask": self.mask_private}
        if self.seat.spoils:
            secrets[self.seat.spoils] = ref.hashed(secrets[self.seat.spoils])
        self.given = {
            kind: ref.share_out(secret, threshold, holders, self.draw) for kind, secret in secrets.items()
        }
        ciphertexts: dict[int, bytes] = {}
        for holder in holders:
            if holder == self.index:
                ciphertexts[holder] = b""
                continue
            shared = ref.exchange(self.seal_private, seals[holder])
            key = ref.seal_key(self.hash, shared, seals, self.index, holder)
            plaintext = self.given["self-mask"][holder] + self.given["pair-mask"][holder]
            self.deal_keys[holder] = key
            ciphertexts[holder] = ref.seal(key, self.hash, self.index, holder, plaintext)
        return self.signed(self.deal_body(holders, ciphertexts)), ciphertexts

    def deal_body(self, holders: Sequence[int], ciphertexts: dict[int, bytes]) -> bytes:
        digest = ref.hashed(
            ref.field(ref.VERSION + b"/self-mask-seed")
            + self.hash
            + ref.u32(self.index)
            + ref.field(self.self_mask)
        )
        kinds = [
            b"".join(ref.commit(self.hash, self.index, j, kind, self.given[kind][j]) for j in holders)
            for kind in ("self-mask", "pair-mask")
        ]
        seals = b"".join(
            bytes(32)
            if j == self.index
            else ref.commit(self.hash, self.index, j, "seal-key", self.deal_keys[j])
            for j in holders
        )
        body = self.header("shares") + ref.field(digest) + ref.field(ref.u32s(holders))
        hashes = b"".join(ref.hashed(ciphertexts[j]) for j in holders)
        return body + b"".join(ref.field(part) for part in (*kinds, seals, hashes))

    def hold(self, dealer: "RefSite") -> None:
        for kind, shares in dealer.given.items():
            self.held[kind][dealer.index] = shares[self.index]

    def masked(self, mask_keys: dict[int, bytes]) -> tuple[list[int], list[int]]:
        """The words before and after masking; `mask_keys` are the public keys s of U2."""
        seat, plan = self.seat, self.case.plan
        plain = ref.quantise(plan, seat.values, seat.weight, seat.wide, seat.rounding)
        words = list(plain)
        own = ref.masks(self.hash, self.self_mask, "self-mask", ref.u32(self.index), len(words))
        words = [(word + mask) % ref.WORD for word, mask in zip(words, own, strict=True)]
        for peer in sorted(mask_keys):
            if peer != self.index:
                stream = pair_mask(self.hash, self.mask_private, mask_keys, self.index, peer, len(words))
                sign = 1 if self.index < peer else -1
                words = [(word + sign * mask) % ref.WORD for word, mask in zip(words, stream, strict=True)]
        return plain, words

    def input_header(self, second: Sequence[int], words: Sequence[int]) -> bytes:
        digests = ref.field(ref.hashed(ref.u32s(second))) + ref.field(ref.hashed(ref.words_bytes(words)))
        return self.signed(self.header("input") + ref.u64(len(words)) + digests)

    def consistent(self, second: Sequence[int], digests: dict[int, bytes]) -> bytes:
        third = b"".join(ref.u32(index) + digests[index] for index in sorted(digests))
        view = ref.field(ref.hashed(ref.u32s(second))) + ref.field(ref.hashed(third))
        return self.signed(self.header("consistent") + view)

    def reveal(self, second: Sequence[int], third: Sequence[int]) -> bytes:
        shares = [self.held["self-mask" if j in third else "pair-mask"][j] for j in second]
        return self.signed(self.header("revealed") + ref.field(b"".join(shares)))


def pair_mask(
    plan_hash: bytes, private: bytes, publics: dict[int, bytes], index: int, peer: int, words: int
) -> list[int]:
    low, high = sorted((index, peer))
    ends = publics[low] + publics[high] + ref.u32(low) + ref.u32(high)
    return ref.masks(plan_hash, ref.exchange(private, publics[peer]), "pair-mask", ends, words)


def complaint(site: RefSite, dealer: int, reason: str, key: bytes, ciphertext: bytes) -> bytes:
    content = ref.u32(dealer) + ref.field(reason) + ref.field(key) + ref.field(ciphertext)
    return site.signed(site.header("complaint") + content)


@dataclass
class Run:
    """Every message of a sum, by the sender's (or the receiver's) index, and what the server reads."""

    case: Case
    sites: list[RefSite]
    keys: dict[int, bytes] = field(default_factory=dict)
    roster_keys: bytes = b""
    bodies: dict[int, bytes] = field(default_factory=dict)
    ciphertexts: dict[int, dict[int, bytes]] = field(default_factory=dict)
    shares: dict[int, bytes] = field(default_factory=dict)
    deliver: dict[int, bytes] = field(default_factory=dict)
    ready: dict[int, bytes] = field(default_factory=dict)
    plain: dict[int, list[int]] = field(default_factory=dict)
    masked: dict[int, list[int]] = field(default_factory=dict)
    input: dict[int, bytes] = field(default_factory=dict)
    survivors: bytes = b""
    consistent: dict[int, bytes] = field(default_factory=dict)
    unmask: bytes = b""
    revealed: dict[int, bytes] = field(default_factory=dict)
    words: list[int] = field(default_factory=list)
    values: list[Fraction] = field(default_factory=list)
    weight: int = 0
    wide: list[Fraction] = field(default_factory=list)
    transcript: bytes = b""
    site_transcript: bytes = b""  # what every site that reveals has seen

    @property
    def u1(self) -> list[int]:
        return sorted(self.keys)

    @property
    def u2(self) -> list[int]:
        return sorted(self.shares)

    @property
    def u3(self) -> list[int]:
        return sorted(self.input)

    @property
    def convicted(self) -> int | None:
        """The dealer whose revealed shares make another secret than it committed to."""
        for index in self.u2:
            if self.case.seats[index].spoils == ("self-mask" if index in self.u3 else "pair-mask"):
                return index
        return None

    def digests(self) -> dict[int, bytes]:
        return {index: ref.hashed(ref.words_bytes(self.masked[index])) for index in self.u3}

    def relay(self, kind: str, messages: dict[int, bytes]) -> bytes:
        """A relay of the server: the messages in ascending order of their senders."""
        ordered = [messages[index] for index in sorted(messages)]
        return ref.header(kind, self.case.plan.hash, ref.SERVER) + ref.listing(ordered)

    def delivery(self, receiver: int) -> bytes:
        rows = b"".join(
            ref.field(self.bodies[dealer]) + ref.field(self.ciphertexts[dealer][receiver])
            for dealer in self.u2
        )
        return ref.header("deliver", self.case.plan.hash, ref.SERVER) + ref.u32(len(self.u2)) + rows


def perform(case: Case) -> Run:
    """The sum of `case`, each site leaving where it says."""
    run = Run(case, [RefSite(case, index) for index in range(len(case.seats))])
    _share(run)
    _mask(run)
    digests = run.digests()
    for index in run.u3:
        if case.seats[index].stays("consistent"):
            run.consistent[index] = run.sites[index].consistent(run.u2, digests)
    run.unmask = run.relay("unmask", run.consistent)
    for index in run.consistent:
        if case.seats[index].stays("revealed"):
            run.revealed[index] = run.sites[index].reveal(run.u2, run.u3)
    _unmask(run)
    run.transcript, run.site_transcript = _transcript(run), _transcript(run, of_site=True)
    return run


def _share(run: Run) -> None:
    stays = [site for site in run.sites if site.seat.stays("keys")]
    run.keys = {site.index: site.keys() for site in stays}
    run.roster_keys = run.relay("roster-keys", run.keys)
    seals = {site.index: ref.public(site.seal_private) for site in stays}
    for site in stays:
        if site.seat.stays("shares"):
            body, ciphertexts = site.deal(seals)
            run.bodies[site.index], run.ciphertexts[site.index] = body, ciphertexts
            others = [ciphertexts[holder] for holder in sorted(seals) if holder != site.index]
            run.shares[site.index] = ref.field(body) + ref.listing(others)
    for index in run.u2:
        for dealer in run.u2:
            run.sites[index].hold(run.sites[dealer])
        run.deliver[index] = run.delivery(index)
        run.ready[index] = run.sites[index].header("ready")


def _mask(run: Run) -> None:
    mask_keys = {index: ref.public(run.sites[index].mask_private) for index in run.u2}
    for index in run.u2:
        if run.case.seats[index].stays("input"):
            run.plain[index], run.masked[index] = run.sites[index].masked(mask_keys)
            run.input[index] = run.sites[index].input_header(run.u2, run.masked[index])
    run.survivors = run.relay("survivors", run.input)


def _unmask(run: Run) -> None:
    plan, answering = run.case.plan, sorted(run.revealed)[: run.case.plan.threshold]
    total = [sum(column) % ref.WORD for column in zip(*(run.masked[index] for index in run.u3), strict=True)]
    mask_keys = {index: ref.public(run.sites[index].mask_private) for index in run.u2}
    for place, dealer in enumerate(run.u2):
        # The shares are read from the messages, not from the sites, as a server would.
        shares = {j: run.revealed[j][-68 - 33 * len(run.u2) :][:-68][33 * place :][:33] for j in answering}
        secret = ref.reconstruct(shares)
        if dealer in run.u3:
            own = ref.masks(plan.hash, secret, "self-mask", ref.u32(dealer), plan.words)
            total = [(word - mask) % ref.WORD for word, mask in zip(total, own, strict=True)]
            continue
        for peer in run.u3:
            stream = pair_mask(plan.hash, secret, mask_keys, dealer, peer, plan.words)
            sign = -1 if peer < dealer else 1
            total = [(word + sign * mask) % ref.WORD for word, mask in zip(total, stream, strict=True)]
    run.words = total
    run.values, run.weight, run.wide = ref.unquantise(plan, total, len(run.u3))


def _transcript(run: Run, *, of_site: bool = False) -> bytes:
    start = ref.field(ref.VERSION) + ref.field("transcript") + ref.field(run.case.directory)
    parts = (run.keys, run.bodies, run.input, run.consistent, {} if of_site else run.revealed)
    lists = b"".join(ref.listing([part[index] for index in sorted(part)]) for part in parts)
    result = b"" if of_site else ref.u32(len(run.u3)) + ref.u64(run.weight)
    return start + ref.field(run.case.signed_plan) + lists + ref.field(result)
