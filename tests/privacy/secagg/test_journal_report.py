"""What a journal says of itself."""

import json

from tests.privacy.secagg.journals import digest, head_of, make_plan, make_rules
from vestry_privacy.secagg.history import NO_HEAD, History
from vestry_privacy.secagg.journal_report import Lost, report_of


def test_an_empty_journal() -> None:
    told = report_of(History(), NO_HEAD, (), {})
    assert told.plans == {"accepted": 0, "consumed": 0, "signed": 0, "revealed": 0}
    assert (told.keys, told.repeated) == (0, 0)
    assert told.plain()["head"] == {"epoch": 0, "count": 0, "hash": "00" * 32}


def test_everything_is_counted_and_fits_into_json() -> None:
    history, rules = History(), make_rules(may_repeat=True)
    for number, model in enumerate((1, 1, 2, 3), 1):
        plan = make_plan(number, rules, model=digest(("model", model)))
        history.accept(plan)
        if number < 4:
            history.consume(plan.plan)
    history.sign(make_plan(1).plan)
    peers = {digest("south"): (head_of(3), head_of(1)), digest("east"): (head_of(2, 1), NO_HEAD)}
    told = report_of(history, head_of(9, 1), (Lost(1, 7, "a test", 5),), peers)
    plain = json.loads(json.dumps(told.plain()))
    assert plain["plans"] == {"accepted": 1, "consumed": 2, "signed": 1, "revealed": 0}
    assert (plain["consumed_keys"], plain["repeated_keys"], plain["epoch"]) == (2, 1, 1)
    assert plain["losses"] == [{"epoch": 1, "known": 7, "note": "a test", "time": 5}]
    assert list(plain["peers"]) == sorted(peer.hex() for peer in peers)
    south = plain["peers"][digest("south").hex()]
    assert south["journal"] == {"epoch": 0, "count": 3, "hash": head_of(3).hash.hex()}


def test_no_run_model_or_roster_is_told() -> None:
    history, plan = History(), make_plan(1, run="a run's name")
    history.accept(plan)
    history.consume(plan.plan)
    text = json.dumps(report_of(history, head_of(2), (), {}).plain())
    for hidden in ("a run's name", plan.model.hex(), plan.roster[0].hex(), "angio"):
        assert hidden not in text
