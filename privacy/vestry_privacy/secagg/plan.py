"""The plan of one secure sum: everything that every site must see the same way, under one hash.

Symbols as in docs/secagg-protocol.md. The hash salts every key of the sum, so that whoever was told another
plan computes other masks, and nothing can be unmasked.

    ProtocolAbort
    ├── PlanRefused    a field has a value that no plan may have, or not the one that the site computed
    └── BadMessage     the bytes are no plan of this version
"""

import dataclasses
import hashlib
import math
import struct
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from vestry_privacy.secagg.encoding import DIGEST_BYTES, PROTOCOL, Reader, field, text, u32, u64
from vestry_privacy.secagg.errors import PlanRefused, ValueRefused
from vestry_privacy.secagg.ring import WORD_BITS, Ring
from vestry_privacy.secagg.vector import Shape

__all__ = [
    "KINDS",
    "MAX_SITES",
    "MIN_SITES",
    "Plan",
    "honest_crowd",
    "most_colluders",
    "threshold",
    "tolerated_dropouts",
]

KINDS: Final = ("statistics", "train", "evaluate")
MIN_SITES: Final = 3
MAX_SITES: Final = 200
_MOST_VALUES = 2**40
_MOST_WIDE = 2**24


def threshold(sites: int) -> int:
    """t = floor(2n/3) + 1: so many must agree on the survivors, and so many can unmask."""
    return 2 * sites // 3 + 1


def most_colluders(sites: int) -> int:
    """c = floor((n-1)/3): so many sites may help a malicious server."""
    return (sites - 1) // 3


def honest_crowd(sites: int) -> int:
    """t - c: a site's update is hidden among those of at least so many honest sites."""
    return threshold(sites) - most_colluders(sites)


def tolerated_dropouts(sites: int) -> int:
    """n - t: so many sites may be lost in a sum, at whatever step."""
    return sites - threshold(sites)


@dataclass(frozen=True)
class Plan:
    """One secure sum.

    Attributes:
        study: hash of the study, 32 bytes.
        run: name of the run.
        kind: ``statistics``, ``train`` or ``evaluate``.
        sequence: of the run, shared by all kinds; only grows.
        round: of the study; 0 for statistics.
        directory: version of the directory of identities.
        roster: key hashes of the sites, strictly ascending; a site's index is its place.
        model: hash of the global model, 32 bytes; for statistics the study's hash.
        configuration: hash of the arrays that come with the order, 32 bytes.
        code: hash of the software's name and version, 32 bytes.
        values: d, values in lanes.
        wide: k, wide values.
        lane_bits: L.
        value_range: R.
        weight_limit: w_max.
        threshold: t.
        least: fewest organisations among whose inputs one is hidden.
        privacy: the differential-privacy block, or nothing.
        deadline: seconds for each step.
    """

    study: bytes
    run: str
    kind: str
    sequence: int
    round: int
    directory: int
    roster: tuple[bytes, ...]
    model: bytes
    configuration: bytes
    code: bytes
    values: int
    wide: int
    lane_bits: int
    value_range: float
    weight_limit: int
    threshold: int
    least: int
    privacy: bytes
    deadline: float

    @property
    def sites(self) -> int:
        """n, seats of the roster."""
        return len(self.roster)

    @cached_property
    def ring(self) -> Ring:
        """How values become lanes."""
        return Ring(self.lane_bits, self.sites, self.value_range)

    @cached_property
    def shape(self) -> Shape:
        """How a site's words are laid out."""
        return Shape(self.ring, self.values, self.wide, self.weight_limit)

    @cached_property
    def digest(self) -> bytes:
        """The plan hash, 32 bytes."""
        return hashlib.sha256(self.encode()).digest()

    def encode(self) -> bytes:
        """Its bytes."""
        return b"".join(
            (
                field(PROTOCOL) + field(b"plan"),
                field(self.study) + text(self.run) + text(self.kind),
                u64(self.sequence) + u32(self.round) + u64(self.directory),
                u32(self.sites) + b"".join(map(field, self.roster)),
                field(self.model) + field(self.configuration) + field(self.code),
                u64(self.values) + u32(self.wide),
                u32(self.lane_bits) + u32(WORD_BITS // max(self.lane_bits, 1)),
                struct.pack(">d", self.value_range) + u64(self.weight_limit),
                u32(self.threshold) + u32(self.least) + u32(0),
                field(self.privacy) + struct.pack(">d", self.deadline),
            )
        )

    @staticmethod
    def decode(content: bytes) -> "Plan":
        """Read :meth:`encode`, and check what every plan must keep.

        Raises:
            BadMessage: it is no plan, or of another version.
            PlanRefused: see :meth:`check`.
        """
        reader = Reader(content, "plan")
        version = reader.field()
        if version != PROTOCOL:
            shown = version[:40].decode("ascii", "replace")
            raise reader.wrong(f"its version is {shown!r}; bring both sides to one version")
        if reader.field() != b"plan":
            raise reader.wrong("it is no plan")
        study, run, kind = reader.field(DIGEST_BYTES), reader.text(), reader.text()
        sequence, number, directory = reader.u64(), reader.u32(), reader.u64()
        seats = reader.u32()
        if seats > MAX_SITES:
            raise PlanRefused("plan.roster", f"{seats} sites; at most {MAX_SITES} can add up together")
        roster = tuple(reader.field(DIGEST_BYTES) for _ in range(seats))
        model, configuration, code = (reader.field(DIGEST_BYTES) for _ in range(3))
        values, wide, lane_bits, lanes = reader.u64(), reader.u32(), reader.u32(), reader.u32()
        value_range, limit = reader.f64(), reader.u64()
        t, least, neighbours = reader.u32(), reader.u32(), reader.u32()
        privacy, deadline = reader.field(), reader.f64()
        reader.end()
        if neighbours:
            raise PlanRefused(
                "plan.neighbours", f"{neighbours}; this version knows the complete graph only (0)"
            )
        plan = Plan(
            study, run, kind, sequence, number, directory, roster, model, configuration, code,
            values, wide, lane_bits, value_range, limit, t, least, privacy, deadline,
        )  # fmt: skip
        plan.check()
        if lanes != plan.ring.lanes:
            raise PlanRefused(
                "plan.lanes", f"{lanes} lanes of {lane_bits} bits; {plan.ring.lanes} go into a word"
            )
        return plan

    def check(self) -> None:
        """What every plan must keep, whatever the study is.

        Raises:
            PlanRefused: names the field, its value and what is allowed.
        """
        n = self.sites
        if not MIN_SITES <= n <= MAX_SITES:
            raise PlanRefused("plan.roster", f"{n} sites; {MIN_SITES} to {MAX_SITES} can add up together")
        if any(low >= high for low, high in pairwise(self.roster)):
            raise PlanRefused("plan.roster", "its entries are not ascending and distinct")
        for name, hashed in (("study", self.study), ("model", self.model), ("code", self.code)):
            if len(hashed) != DIGEST_BYTES:
                raise PlanRefused(f"plan.{name}", f"{len(hashed)} bytes where a hash has {DIGEST_BYTES}")
        if self.kind not in KINDS:
            raise PlanRefused("plan.kind", f"{self.kind!r}; known: {', '.join(KINDS)}")
        if self.threshold != threshold(n):
            raise PlanRefused("plan.threshold", f"{self.threshold}; of {n} sites it is {threshold(n)}")
        if not MIN_SITES <= self.least <= n:
            raise PlanRefused(
                "plan.least", f"{self.least}; it lies between {MIN_SITES} and {n}, the roster's size"
            )
        try:
            Ring(self.lane_bits, n, self.value_range)
        except ValueRefused as error:
            raise PlanRefused(f"plan.{error.rule}", error.message) from None
        if not (self.weight_limit >= 1 and n * self.weight_limit < 2**64):
            raise PlanRefused(
                "plan.weight_limit", f"{self.weight_limit}; at least 1, and {n} times it below 2^64"
            )
        if self.values > _MOST_VALUES or self.wide > _MOST_WIDE:
            raise PlanRefused("plan.values", f"{self.values} values and {self.wide} wide ones are too many")
        if self.values + self.wide < 1 and self.kind != "statistics":
            raise PlanRefused("plan.values", "0; there is nothing to add up")
        if not (math.isfinite(self.deadline) and self.deadline > 0):
            raise PlanRefused("plan.deadline", f"{self.deadline:g} seconds; it is finite and above 0")
        if self.sequence < 1:
            raise PlanRefused("plan.sequence", f"{self.sequence}; it begins at 1")

    def require(self, expected: "Plan") -> None:
        """Refuse a plan that is not the one that this site has computed.

        Raises:
            PlanRefused: names the first field that differs.
        """
        for item in dataclasses.fields(self):
            asked, own = getattr(self, item.name), getattr(expected, item.name)
            if asked != own:
                raise PlanRefused(
                    f"plan.{item.name}",
                    f"is {_shown(asked)}, this site computes {_shown(own)} from the study",
                    round=self.round,
                )


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()[:16] + "…" if value else "nothing"
    if isinstance(value, tuple):
        return f"a roster of {len(value)}"
    return repr(value)
