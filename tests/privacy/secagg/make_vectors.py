"""Writes tests/vectors/secagg/ from the reference: `python -m tests.privacy.secagg.make_vectors`."""

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.privacy.secagg import reference as ref
from tests.privacy.secagg.reference_cases import CASES, make_case
from tests.privacy.secagg.reference_faults import Fault
from tests.privacy.secagg.reference_late_faults import all_faults
from tests.privacy.secagg.reference_run import Case, Head, Run, Seat, perform

__all__ = ["FOLDER", "LONG", "files", "main"]

FOLDER = Path(__file__).parents[2] / "vectors" / "secagg"
LONG = 800  # a message longer than this is in a vector by its hash alone


def files() -> Iterator[tuple[str, str]]:
    """Name and content of every vector file."""
    for wish in CASES:
        run = perform(make_case(wish))
        yield f"run-{wish.name}.json", text(positive(run))
    refused = [refusal(one) for one in all_faults()]
    yield "refusals.json", text({"protocol": ref.VERSION.decode(), "refusals": refused})


def text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def positive(run: Run) -> dict[str, Any]:
    case = run.case
    return {
        "protocol": ref.VERSION.decode(),
        "name": case.name,
        "about": case.about,
        "coordinator": case.coordinator.hex(),
        "plan": plan_fields(case),
        "sites": [seat(one) for one in case.seats],
        "messages": {
            "directory": message(case.directory),
            "signed_plan": message(case.signed_plan),
            "keys": many(run.keys),
            "roster_keys": message(run.roster_keys),
            "shares": many(run.shares),
            "deliver": many(run.deliver),
            "ready": many(run.ready),
            "input": many(run.input),
            "survivors": message(run.survivors),
            "consistent": many(run.consistent),
            "unmask": message(run.unmask),
            "revealed": many(run.revealed),
            **transcripts(run),
        },
        "words": {
            "plain": {str(at): ref.words_bytes(words).hex() for at, words in run.plain.items()},
            "masked": {str(at): ref.words_bytes(words).hex() for at, words in run.masked.items()},
        },
        "result": result(run),
    }


def transcripts(run: Run) -> dict[str, Any]:
    if run.convicted is not None:
        return {}
    return {"transcript": message(run.transcript), "site_transcript": message(run.site_transcript)}


def result(run: Run) -> dict[str, Any]:
    sets: dict[str, Any] = {"u1": run.u1, "u2": run.u2, "u3": run.u3}
    convicted = run.convicted
    if convicted is not None:
        return sets | {"code": "dealing", "dealer": convicted}
    return sets | {
        "words": ref.words_bytes(run.words).hex(),
        "values": [float(value) for value in run.values],
        "weight": run.weight,
        "wide": [float(value) for value in run.wide],
    }


def plan_fields(case: Case) -> dict[str, Any]:
    plan = case.plan
    return {
        "plan_hash": plan.hash.hex(),
        "study": plan.study.hex(),
        "run": plan.run,
        "kind": plan.kind,
        "sequence": plan.sequence,
        "round": plan.round,
        "directory": plan.directory,
        "roster": [entry.hex() for entry in plan.roster],
        "model": plan.model.hex(),
        "configuration": plan.configuration.hex(),
        "code": plan.code.hex(),
        "values": plan.values,
        "wide": plan.wide,
        "lane_bits": plan.lane_bits,
        "lanes": plan.per_word,
        "value_range": plan.value_range,
        "weight_limit": plan.weight_limit,
        "threshold": plan.threshold,
        "least": plan.least,
        "neighbours": plan.neighbours,
        "privacy": plan.privacy.hex(),
        "deadline": plan.deadline,
    }


def seat(one: Seat) -> dict[str, Any]:
    return {
        "name": one.name,
        "organisation": one.organisation,
        "identity": one.identity.hex(),
        "entropy": one.entropy.hex(),
        "rounding": one.rounding.hex(),
        "journal": head(one.journal),
        "ledger": head(one.ledger),
        "values": struct.pack(f"<{len(one.values)}f", *one.values).hex(),
        "weight": one.weight,
        "wide": struct.pack(f"<{len(one.wide)}d", *one.wide).hex(),
        "leaves": one.leaves,
        "spoils": one.spoils,
    }


def head(one: Head) -> dict[str, Any]:
    epoch, count, chain = one
    return {"epoch": epoch, "count": count, "hash": chain.hex()}


def message(content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"bytes": len(content), "sha256": ref.hashed(content).hex()}
    return entry if len(content) > LONG else {**entry, "hex": content.hex()}


def many(messages: dict[int, bytes]) -> dict[str, Any]:
    return {str(at): message(messages[at]) for at in sorted(messages)}


def refusal(one: Fault) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": one.name,
        "run": one.run,
        "at": one.at,
        "site": one.index,
        "step": one.step,
        "code": one.code,
        "message": one.message.hex(),
    }
    extra = {"directory": one.directory, "words": one.words, "complaint": one.answer}
    entry |= {name: content.hex() for name, content in extra.items() if content}
    if one.seen:
        site, journal, ledger = one.seen
        entry["seen"] = {"site": site, "journal": head(journal), "ledger": head(ledger)}
    return entry


def main(arguments: Sequence[str] = ()) -> None:
    """Write the files, and take away those that no case makes any more."""
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    made = dict(files())
    for old in folder.glob("*.json"):
        if old.name not in made:
            old.unlink()
    for name, content in made.items():
        (folder / name).write_text(content, encoding="ascii")


if __name__ == "__main__":
    main()
