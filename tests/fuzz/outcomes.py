"""What came of the inputs: clear, read or wrong, counted per kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CLEAR, READ, WRONG = "clear", "read", "wrong"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one input gave.

    Args:
        kind: of the input.
        number: of the input within its kind.
        what: CLEAR (one line that names the fault), READ (accepted) or WRONG.
        detail: the line, or what is wrong: "traceback", "hang", "crash", "memory", "NaN", with the place.
    """

    kind: str
    number: int
    what: str
    detail: str = ""


def count_table(outcomes: Iterable[Outcome], kinds: Sequence[str]) -> str:
    """A line per kind: attempts, clear, read and wrong; then their sums."""
    counts = {kind: dict.fromkeys((CLEAR, READ, WRONG), 0) for kind in (*kinds, "all")}
    for outcome in outcomes:
        for kind in (outcome.kind, "all"):
            counts[kind][outcome.what] += 1
    lines = [f"{'kind':<18} {'attempts':>8} {CLEAR:>8} {READ:>8} {WRONG:>8}"]
    for kind, of in counts.items():
        lines.append(f"{kind:<18} {sum(of.values()):>8} {of[CLEAR]:>8} {of[READ]:>8} {of[WRONG]:>8}")
    return "\n".join(lines)
