"""Reads the Wycheproof vectors in ``wycheproof/`` (origin and licence: ``wycheproof/NOTICE.md``)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Case", "wycheproof"]

FOLDER = Path(__file__).parent / "wycheproof"


@dataclass(frozen=True)
class Case:
    """One case: its fields as they are in the file, hexadecimal or numbers."""

    fields: dict[str, Any]

    def raw(self, name: str) -> bytes:
        return bytes.fromhex(self.fields[name])

    @property
    def invalid(self) -> bool:
        return bool(self.fields["result"] == "invalid")

    @property
    def flags(self) -> frozenset[str]:
        return frozenset(self.fields["flags"])


def wycheproof(name: str) -> list[Any]:
    """The cases of one file, each as a parameter with its number there."""
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return [pytest.param(Case(fields), id=f"{name}-{fields['tcId']}") for fields in content["cases"]]
