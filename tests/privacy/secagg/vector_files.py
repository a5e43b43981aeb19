"""Reads tests/vectors/secagg/ as another implementer would: from the JSON alone."""

import json
import struct
from pathlib import Path
from typing import Any

from tests.privacy.secagg.reference import RefPlan
from tests.privacy.secagg.reference_faults import Fault
from tests.privacy.secagg.reference_run import Case, Head, Seat

__all__ = ["FOLDER", "load", "read_case", "read_fault", "refusals", "runs"]

FOLDER = Path(__file__).parents[2] / "vectors" / "secagg"


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
    return content


def runs() -> dict[str, dict[str, Any]]:
    """Name -> vector, of all runs."""
    found = [load(path) for path in sorted(FOLDER.glob("run-*.json"))]
    return {vector["name"]: vector for vector in found}


def refusals() -> list[Fault]:
    return [read_fault(entry) for entry in load(FOLDER / "refusals.json")["refusals"]]


def read_case(vector: dict[str, Any]) -> Case:
    plan = dict(vector["plan"])
    del plan["plan_hash"]
    for name in ("study", "model", "configuration", "code", "privacy"):
        plan[name] = bytes.fromhex(plan[name])
    plan["roster"] = tuple(bytes.fromhex(entry) for entry in plan["roster"])
    seats = tuple(_seat(entry) for entry in vector["sites"])
    return Case(vector["name"], vector["about"], RefPlan(**plan), seats, bytes.fromhex(vector["coordinator"]))


def _seat(entry: dict[str, Any]) -> Seat:
    values, wide = bytes.fromhex(entry["values"]), bytes.fromhex(entry["wide"])
    return Seat(
        name=entry["name"],
        organisation=entry["organisation"],
        identity=bytes.fromhex(entry["identity"]),
        entropy=bytes.fromhex(entry["entropy"]),
        rounding=bytes.fromhex(entry["rounding"]),
        journal=_head(entry["journal"]),
        ledger=_head(entry["ledger"]),
        values=struct.unpack(f"<{len(values) // 4}f", values),
        weight=entry["weight"],
        wide=struct.unpack(f"<{len(wide) // 8}d", wide),
        leaves=entry["leaves"],
        spoils=entry["spoils"],
    )


def _head(entry: dict[str, Any]) -> Head:
    return entry["epoch"], entry["count"], bytes.fromhex(entry["hash"])


def read_fault(entry: dict[str, Any]) -> Fault:
    seen = entry.get("seen")
    return Fault(
        name=entry["name"],
        run=entry["run"],
        at=entry["at"],
        index=entry["site"],
        step=entry["step"],
        code=entry["code"],
        message=bytes.fromhex(entry["message"]),
        directory=bytes.fromhex(entry.get("directory", "")),
        words=bytes.fromhex(entry.get("words", "")),
        answer=bytes.fromhex(entry.get("complaint", "")),
        seen=None if seen is None else (seen["site"], _head(seen["journal"]), _head(seen["ledger"])),
    )
