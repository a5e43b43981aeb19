"""`vestry-site policy check`: what a policy allows, in words; every problem, where it is wrong."""

import json
from datetime import date
from pathlib import Path

import pytest

from tests.client.ward import POLICY, asked, make_home, make_rules, said_no
from vestry_client.policy import SitePolicy
from vestry_client.policy_command import in_words, weak_choices
from vestry_client.policy_file import PolicyFileError, parse_policy
from vestry_client.privacy_rules import BudgetRules

TODAY = date(2026, 7, 1)


def words(policy: SitePolicy) -> dict[str, str]:
    pairs = list(in_words(policy))
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_check_says_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(POLICY, encoding="utf-8")
    shown, notes = asked("policy", "check", path)
    assert notes == ""
    for part in ("p.toml: fine", "epsilon 4 at delta 1e-05, for life", "column patient_id", "angio, echo"):
        assert part in shown
    assert "weak" not in shown


def test_the_sites_own_policy_is_the_default(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    assert str(home.policy.name) in asked("policy", "check", home=home)[0]


def test_check_for_programs(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(POLICY.replace("version = 1", "allow_individual_updates = true"), encoding="utf-8")
    told = json.loads(asked("policy", "check", path, "--json")[0])
    assert told["ok"] is True
    assert told["policy"]["populations"]["cardiology"]["budget"]["epsilon"] == 4.0
    assert [line.split(":")[0] for line in told["weak"]] == ["allow_individual_updates"]


def test_a_wrong_policy_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(POLICY.replace("metrics", "metrcs").replace("4.0", "0.0"), encoding="utf-8")
    said = said_no("policy", "check", path)
    assert "2 problems" in said
    assert "did you mean 'metrics'?" in said
    assert "Without a policy nothing trains" in said_no("policy", "check", tmp_path / "none.toml")
    with pytest.raises(PolicyFileError):
        parse_policy(path.read_text(encoding="utf-8"))


def test_words_for_an_empty_policy() -> None:
    said = words(SitePolicy())
    assert said["populations"].startswith("none")
    assert said["training without privacy"] == "refused"
    assert said["this site's own update"] == "only in a sum over 5 or more sites"
    assert said["who may ask"] == "everybody"
    assert said["rosters of one data set"] == "equal, or different by 2 sites or more"
    assert said["drawn cohorts"] == "refused: the study's whole roster only"
    assert said["a failed round is repeated"] == "at most 3 times, under local noise only"


def test_words_for_every_rule() -> None:
    window = (date(2027, 1, 1), date(2027, 12, 31))
    rules = make_rules(
        unit_column="row",
        adjacency="add-remove",
        publish_persons=False,
        budget=BudgetRules(epsilon=4.0, delta=1e-5, window=window),
        max_steps=99,
        min_noise_multiplier=0.7,
        federation_sites=4,
        expires=date(2028, 1, 1),
    )
    said = words(
        SitePolicy(
            allowed_initiators=(), allowed_purposes=("care",), max_rounds=3, populations={"wards": rules}
        )
    )
    assert said["who may ask"] == "nobody"
    assert said["for which purposes"] == "care"
    assert said["wards: who is protected"] == "patient, every row is another person"
    assert said["wards: number of persons"] == "not public (add-remove)"
    assert "2027-01-01 to 2027-12-31" in said["wards: budget"]
    assert said["wards: at most"] == "99 steps, 16 records of a person"
    assert said["wards: at least"] == "10 persons, noise multiplier 0.7"
    assert said["wards: persons at other sites"] == "unknown, charged for 4 sites"
    assert said["wards: expires"] == "after 2028-01-01"
    assert said["wards: data sets"] == "none"
    assert "400" not in "".join(said.values())


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"exact_sums": True}, "exact_sums"),
        ({"secure_noise": False}, "secure_noise"),
        ({"allow_site_noise_at_server": True}, "allow_site_noise_at_server"),
        ({"unit": "record", "unit_column": None}, "unit"),
        ({"unit": "site", "unit_column": None, "persons": 1}, "unit"),
        ({"expires": date(2026, 6, 30)}, "expires"),
        (
            {"budget": BudgetRules(epsilon=4.0, delta=1e-5, window=(date(2025, 1, 1), date(2026, 6, 30)))},
            "budget.window",
        ),
    ],
)
def test_weak_choices_are_told(changes: dict[str, object], key: str) -> None:
    assert list(weak_choices(SitePolicy(populations={"a": make_rules()}), TODAY)) == []
    (line,) = weak_choices(SitePolicy(populations={"a": make_rules(**changes)}), TODAY)
    assert line.startswith(f"populations.a.{key}: ")


@pytest.mark.parametrize(
    ("settings", "repeats", "weak"),
    [
        ({"max_repeats": 0}, "never", []),
        ({"max_repeats": 0, "allow_repeats_without_privacy": True}, "never", []),
        (
            {"allow_repeats_without_privacy": True},
            "at most 3 times",
            ["allow_repeats_without_privacy"],
        ),
        ({"roster_change": 1}, "at most 3 times, under local noise only", ["roster_change"]),
    ],
)
def test_what_several_sums_tell_is_put_in_words(
    settings: dict[str, object], repeats: str, weak: list[str]
) -> None:
    policy = SitePolicy.model_validate(settings)
    assert words(policy)["a failed round is repeated"] == repeats
    assert [line.split(":")[0] for line in weak_choices(policy, TODAY)] == weak


def test_a_cohort_is_put_in_words() -> None:
    said = words(SitePolicy(max_colluding_sites=2))
    assert said["drawn cohorts"] == "where 2 of them may help the coordinator"


def test_the_open_choices_are_weak() -> None:
    policy = SitePolicy(allow_individual_updates=True, allow_training_without_privacy=True)
    assert len(list(weak_choices(policy, TODAY))) == 2
    last_day = make_rules(expires=TODAY)
    assert list(weak_choices(SitePolicy(populations={"a": last_day}), TODAY)) == []
