"""docs/site-policy.md names exactly the keys that a policy file has."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from vestry_client.policy import SitePolicy
from vestry_client.privacy_rules import BudgetRules, DatasetRule, PrivacyRules

TEXT = (Path(__file__).parent.parent / "docs" / "site-policy.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[BaseModel]] = {
    "At the top": SitePolicy,
    "[populations.NAME]": PrivacyRules,
    "[populations.NAME.budget]": BudgetRules,
    "[datasets.NAME]": DatasetRule,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_documented_with_its_description(section: str) -> None:
    body = TEXT.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", body, re.MULTILINE))
    fields = SECTIONS[section].model_fields
    assert set(rows) == set(fields)
    for name, field in fields.items():
        assert rows[name].strip() == (field.description or "")
