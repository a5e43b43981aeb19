"""Order in, reply out: the same gates in simulation and in production.

    VestryError
    └── (PolicyRefusal, LedgerError, ProtocolAbort, DataError ...)   become a Refusal with their message

Any other exception becomes a Refusal with a class name and a reference number; its text, which might hold
a patient's value, stays in the site's own log.
"""

import logging
import secrets

from vestry_client.plain_orders import plain_reply
from vestry_client.policy import PolicyRefusal
from vestry_client.private_orders import private_reply
from vestry_client.replies import ReplyError
from vestry_client.secure_orders import check_asked, secure_reply, secure_step
from vestry_client.site import Site, make_bench
from vestry_client.train import TrainingDiverged
from vestry_privacy.dpsgd import UnitError
from vestry_privacy.errors import VestryError
from vestry_privacy.gradients import CoupledRecords, UnsupportedLayer
from vestry_privacy.ledger_errors import LedgerError
from vestry_privacy.plan import PlanError
from vestry_privacy.secagg.errors import JournalError, ProtocolAbort, RolledBack
from vestry_strategies.orders import (
    DescribeOrder,
    DescribeReply,
    FinishOrder,
    FinishReply,
    Order,
    Refusal,
    RefusalCode,
    Reply,
    SecureOrder,
)
from vestry_strategies.rows import DataError
from vestry_strategies.study import StudyError, study_from_json

__all__ = ["Site", "handle"]

_log = logging.getLogger("vestry.site")


def handle(site: Site, order: Order) -> Reply:
    """Carry out an order, or say why not.

    Returns:
        The order's reply, or a Refusal. Never raises for what an order or the data may hold.

    Guarantees:
        The policy is asked before any row is read. No message of a Refusal holds a value of a row. Of the
        policy's and the ledger's refusals, and under [privacy] of the data's, it says what the policy lets
        the coordinator know, and the site's own log has them in full.
    """
    try:
        return _reply(site, order)
    except VestryError as error:
        code = _code(error)
        if code in {"policy", "ledger", "data", "secure", "internal"}:
            _log.warning("refused: %s", error)
        accused = error.peer or "" if isinstance(error, RolledBack) else ""
        return Refusal(site.name, code, _told(site, order, error), accused)
    except Exception as error:  # noqa: BLE001  a site answers whatever happens; the text stays here
        reference = secrets.token_hex(4)
        _log.exception("order failed, reference %s", reference)
        message = f"{type(error).__name__}, reference {reference} in the site's log"
        return Refusal(site.name, "internal", message)


def _code(error: VestryError) -> RefusalCode:
    if isinstance(error, PolicyRefusal):
        return "policy"
    if isinstance(error, LedgerError | ReplyError):
        return "ledger"
    if isinstance(error, DataError):
        return "data"
    if isinstance(error, ProtocolAbort):
        return "secure"
    if isinstance(error, TrainingDiverged):
        return "diverged"
    of_study = StudyError | PlanError | UnsupportedLayer | CoupledRecords
    return "study" if isinstance(error, of_study) else "internal"


def _told(site: Site, order: Order, error: VestryError) -> str:
    """What of an error the coordinator may know."""
    level = site.policy.tell_coordinator
    if isinstance(error, PolicyRefusal):
        return error.for_coordinator(level)
    if level == "full":
        return str(error)
    if isinstance(error, LedgerError):
        rule = f" ({type(error).__name__})" if level == "rule" else ""
        return f"refused by the site's privacy ledger{rule}"
    if isinstance(error, JournalError):
        return "this site's journal of secure sums cannot be used; its own log says why"
    if isinstance(error, DataError | UnitError | TrainingDiverged) and _is_guarded(order):
        return "the site's data cannot be used; its own log says why"
    return "refused; the site's own log says why" if level == "nothing" else str(error)


def _is_guarded(order: Order) -> bool:
    """Is it of a study in which no figure of a single site leaves? Read, not searched for in a text."""
    if isinstance(order, DescribeOrder):
        return False
    try:
        study = study_from_json(order.study)
    except StudyError:
        return False
    return study.privacy is not None or study.aggregation.secure


def _reply(site: Site, order: Order) -> Reply:
    if isinstance(order, DescribeOrder):
        return DescribeReply(site.name)
    if isinstance(order, FinishOrder):
        return _finish(site, order)
    bench = make_bench(order.study, site.policy.allowed_plugins)
    site.policy.check_study(bench.study)
    if isinstance(order, SecureOrder):
        return secure_step(site, bench, order)
    check_asked(bench, order)
    if order.secure:
        return secure_reply(site, bench, order)
    if bench.study.privacy is not None:
        return private_reply(site, bench, order)
    return plain_reply(site, bench, order)


def _finish(site: Site, order: FinishOrder) -> FinishReply:
    """Give back what the study held and did not use. A second time changes nothing."""
    digest = study_from_json(order.study).digest()
    if site.ledger is not None:
        site.ledger.release(digest)
    site.forget(digest)
    return FinishReply(site.name)
