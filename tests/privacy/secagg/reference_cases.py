"""The sums that the vectors and the tests hold: derived from a name, so that a file needs no long lists."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from tests.privacy.secagg import reference as ref
from tests.privacy.secagg.reference_run import Case, Seat

__all__ = ["CASES", "Wish", "make_case", "seed"]

SPREAD = 5.0  # values are drawn from -SPREAD to SPREAD


def seed(*labels: object) -> bytes:
    """32 bytes of SHA-256 over labels, as every seed of a vector."""
    return ref.hashed("/".join(str(label) for label in labels).encode())


@dataclass(frozen=True)
class Wish:
    """What a case is about; everything else follows from its name."""

    name: str
    about: str
    sites: int
    leaves: Mapping[int, str]
    values: int = 7
    wide: int = 0
    lane_bits: int = 21
    kind: str = "train"
    weight_limit: int = 1000
    value_range: float = 8.0
    privacy: bytes = b""
    spoils: Mapping[int, str] = field(default_factory=dict)


def floats(count: int, *labels: object) -> tuple[float, ...]:
    """`count` float32 numbers in [-SPREAD, SPREAD)."""
    draw = ref.stream(seed(*labels, "values"))
    numbers = [Fraction(int.from_bytes(draw(4), "big"), 2**32) * 2 - 1 for _ in range(count)]
    return tuple(single(float(number) * SPREAD) for number in numbers)


def single(number: float) -> float:
    rounded: float = struct.unpack(">f", struct.pack(">f", number))[0]
    return rounded


def make_case(wish: Wish) -> Case:
    """The case of a wish."""
    seats = []
    for place in range(wish.sites):
        name = f"site-{place:02d}"
        seats.append(
            Seat(
                name=name,
                organisation=f"organisation-{place:02d}",
                identity=seed(wish.name, name, "identity"),
                entropy=seed(wish.name, name, "entropy"),
                rounding=seed(wish.name, name, "rounding"),
                journal=(1, place + 3, seed(wish.name, name, "journal")),
                ledger=(1, place, seed(wish.name, name, "ledger")) if wish.privacy else (0, 0, bytes(32)),
                values=floats(wish.values, wish.name, name),
                weight=1 + int.from_bytes(seed(wish.name, name, "weight")[:8], "big") % wish.weight_limit,
                wide=tuple(1e3 * number for number in floats(wish.wide, wish.name, name, "wide")),
            )
        )
    seats.sort(key=lambda seat: ref.hashed(seat.member.key))
    seats = [
        replace(seat, leaves=wish.leaves.get(at, ""), spoils=wish.spoils.get(at, ""))
        for at, seat in enumerate(seats)
    ]
    return Case(wish.name, wish.about, _plan(wish, seats), tuple(seats), seed(wish.name, "coordinator"))


def _plan(wish: Wish, seats: list[Seat]) -> ref.RefPlan:
    statistics = wish.kind == "statistics"
    study = seed(wish.name, "study")
    return ref.RefPlan(
        study=study,
        run=f"run of {wish.name}",
        kind=wish.kind,
        sequence=1_700_000_000_000,
        round=0 if statistics else 3,
        directory=2,
        roster=tuple(ref.hashed(seat.member.key) for seat in seats),
        model=study if statistics else seed(wish.name, "model"),
        configuration=seed(wish.name, "configuration"),
        code=seed(wish.name, "code"),
        values=wish.values,
        wide=wish.wide,
        lane_bits=wish.lane_bits,
        value_range=wish.value_range,
        weight_limit=wish.weight_limit,
        threshold=2 * wish.sites // 3 + 1,
        least=3,
        privacy=wish.privacy,
        deadline=60.0,
    )


CASES = (
    Wish("three", "the smallest roster; nobody may leave", 3, {}),
    Wish("four", "everybody stays", 4, {}),
    Wish("four-input", "one leaves after its shares: its pair masks are reconstructed", 4, {2: "input"}),
    Wish("four-consistent", "one leaves after its masked input: its value counts", 4, {0: "consistent"}),
    Wish("four-revealed", "one leaves before it reveals: its value counts", 4, {3: "revealed"}),
    Wish("four-keys", "one never comes", 4, {1: "keys"}),
    Wish("five-shares", "one leaves between its keys and its shares", 5, {4: "shares"}, wide=2),
    Wish(
        "ten", "three leave, each at another step", 10, {0: "shares", 4: "input", 9: "consistent"}, values=31
    ),
    Wish("ten-input", "as many as may leave after their shares", 10, {1: "input", 5: "input", 6: "input"}),
    Wish("lanes-16", "four values a word", 4, {}, values=9, lane_bits=16),
    Wish("lanes-32", "two values a word", 4, {1: "input"}, values=9, lane_bits=32),
    Wish("wide", "values and wide values", 4, {}, values=3, wide=5),
    Wish("statistics", "no value in lanes; sums alone", 4, {}, values=0, wide=4, kind="statistics"),
    Wish("weights", "the sum of weights alone", 4, {}, values=0, kind="statistics", weight_limit=2**40),
    Wish(
        "evaluate", "wide values alone, of weight 1", 4, {}, values=0, wide=3, kind="evaluate", weight_limit=1
    ),
    Wish("bad-self-mask", "a dealer's shares of b make another secret", 4, {}, spoils={2: "self-mask"}),
    Wish("bad-pair-mask", "so of a, seen as it is lost", 4, {1: "input"}, spoils={1: "pair-mask"}),
    Wish("good-pair-mask", "so of a, not seen as it stays", 4, {}, spoils={1: "pair-mask"}),
    Wish("private", "a privacy block and ledger heads", 4, {}, privacy=b'{"delta":1e-5}', weight_limit=1),
)
