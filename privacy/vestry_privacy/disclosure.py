"""What may be said about patients in an error or a log line: never a value, never a small count.

A count below ten can single a person out (the threshold of many statistical offices, e.g. the
Handbook on Statistical Disclosure Control, 2nd ed., section 4.2, minimum frequency rule).
"""

__all__ = ["MINIMUM_CELL", "safe_count"]

MINIMUM_CELL = 10
"""Smallest count of rows (persons) that may leave in a message."""


def safe_count(rows: int) -> str:
    """Describe a number of rows without giving away a small one.

    Args:
        rows: number of rows, 0 or more.

    Returns:
        ``"no rows"``, ``"fewer than 10 rows"`` for 1 to 9, else ``"N rows"``.

    Raises:
        ValueError: ``rows`` is negative.

    Guarantees:
        All counts from 1 to ``MINIMUM_CELL - 1`` give the same text.
    """
    if rows < 0:
        raise ValueError(f"rows={rows} must not be negative")
    if rows == 0:
        return "no rows"
    if rows < MINIMUM_CELL:
        return f"fewer than {MINIMUM_CELL} rows"
    return f"{rows} rows"
