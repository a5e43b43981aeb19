"""Errors name rule, round and peer; codes are fixed and distinct."""

import inspect

from vestry_privacy.secagg import errors
from vestry_privacy.secagg.errors import BadShare, ProtocolAbort


def test_message_names_rule_round_and_peer() -> None:
    error = BadShare("revealed share", "is not what was dealt", round=7, peer="north")
    assert str(error) == (
        "secure aggregation stopped in round 7: revealed share, site 'north': is not what was dealt"
    )
    assert (error.rule, error.round, error.peer, error.code) == ("revealed share", 7, "north", "share")
    assert str(ProtocolAbort("rule", "problem")) == "secure aggregation stopped: rule: problem"


def test_codes_are_distinct() -> None:
    kinds = [
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ProtocolAbort)
    ]
    assert len({kind.code for kind in kinds}) == len(kinds) == len(errors.__all__)
