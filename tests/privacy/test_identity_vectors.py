"""Wycheproof's Ed25519 cases through ``verify_signature``; for RFC 8032 see ``test_identity.py``."""

import pytest

from tests.privacy.secagg.known_answers import Case, wycheproof
from vestry_privacy.identity import IdentityError, verify_signature


@pytest.mark.parametrize("case", wycheproof("ed25519"))
def test_signatures_of_wycheproof(case: Case) -> None:
    """Malleable, truncated, compressed and garbled signatures are refused, and numbers out of range."""
    if case.invalid:
        with pytest.raises(IdentityError, match="does not hold"):
            verify_signature(case.raw("public"), case.raw("msg"), case.raw("sig"))
        return
    verify_signature(case.raw("public"), case.raw("msg"), case.raw("sig"))
