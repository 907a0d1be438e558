"""The target `claims`: every checkable sentence of the paper, a row each, with its verdict."""

from __future__ import annotations

from collections import Counter

from reproduce.paper import Claim
from reproduce.tables.base import MEASURED, PAPER_ONLY, Column, Row, Table, TableInputs, register_table
from reproduce.tables.base import NOT_RUN as CELL_NOT_RUN
from reproduce.tables.cells import BOTH_COSTS, TextCell, text_cell
from reproduce.tables.verdicts import (
    BY_CONVENTION,
    CONTRADICTED,
    FOR_THE_EYE,
    HOLDS,
    NOT_CONFIRMED,
    NOT_RUN,
    UNDECIDED,
    VERDICTS,
    Judgement,
    decimals,
    judge_claims,
)

COLUMNS = (
    Column("stated", "Paper says"),
    Column("implied", "Its tables"),
    Column("measured", "Measured here"),
    Column("demo", "Demo scale"),
    Column("by_tables", "By its tables"),
    Column("verdict", "Verdict"),
)
# What the terminal shows of a verdict; JSON and CSV carry the whole in `status`.
SHORT = {
    HOLDS: "holds",
    BY_CONVENTION: "by convention",
    CONTRADICTED: "contradicted",
    NOT_CONFIRMED: "not confirmed",
    UNDECIDED: "undecided",
    NOT_RUN: "not run",
    FOR_THE_EYE: "for the eye",
}
CLUSTERING_DECIMALS, RATIO_DECIMALS = 3, 2
NOTES = (
    "by convention: holds only under a stated convention, named below. contradicted: by the paper's own table. "
    "not confirmed: by the runs here. undecided: the runs here differ by no more than chance would have them.",
    "By its tables: what the paper's own numbers say. Verdict: accuracies, ablations and clustering need paper-scale "
    "runs, costs are measured live. Demo scale is shown and never decides.",
    "Where a sentence only orders two models, the number is the margin: it must be above 0.",
    "Measured costs: as the paper counts; in brackets with the products of attention, without unused weights, or with "
    "AST's two extra tokens, where that differs.",
)


@register_table(
    "claims", "every checkable sentence of the paper, with a verdict from its tables and our records", BOTH_COSTS
)
def claims(inputs: TableInputs) -> Table:
    """One row a claim, its quotation and reasons below."""
    judged = judge_claims(inputs.paper, inputs.records)
    missing = f"not run: no paper-scale records of what these claims compare under {inputs.records_dir}; see below"
    counts = Counter(judgement.verdict for judgement in judged)
    tally = ", ".join(f"{counts[verdict]} {SHORT[verdict]}" for verdict in VERDICTS if counts[verdict])
    return Table(
        "claims",
        f"{len(judged)} claims of the paper: {tally}",
        COLUMNS,
        tuple(Row(j.claim.key, _label(j.claim), _cells(j, missing)) for j in judged),
        notes=NOTES,
        blocks=(
            Table(
                "claims quoted", "What each says, where, and why the verdict", (), (), notes=tuple(map(_told, judged))
            ),
        ),
    )


def _label(claim: Claim) -> str:
    return claim.key.replace("_", " ")


def _cells(j: Judgement, missing: str) -> dict[str, TextCell]:
    why = missing if j.verdict == NOT_RUN else "; ".join(j.why)
    cells = {
        "by_tables": text_cell(SHORT[j.by_tables], j.by_tables),
        "verdict": text_cell(SHORT[j.verdict], j.verdict, why),
    }
    unit = _unit(j.claim)
    if j.stated is not None:
        said = {"number": "", "about": "about ", "over": "over "}[j.claim.stated_as] + f"{j.stated:g}{unit}"
        cells["stated"] = TextCell(j.stated, None, unit.strip(), PAPER_ONLY, j.claim.where, text=said)
    if j.implied is not None and j.claim.relation != "value":
        text = _number(j, j.implied)
        cells["implied"] = TextCell(j.implied, None, unit.strip(), PAPER_ONLY, ", ".join(j.claim.refs), text=text)
    if j.measured is not None:
        text = _number(j, j.measured) + (f" ({_number(j, j.plain)})" if j.plain is not None else "")
        cells["measured"] = TextCell(None, j.measured, unit.strip(), MEASURED, j.conditions, text=text)
    elif j.verdict == NOT_RUN:
        cells["measured"] = text_cell(CELL_NOT_RUN, CELL_NOT_RUN, missing)
    if j.demo is not None:
        cells["demo"] = TextCell(None, j.demo, unit.strip(), MEASURED, j.demo_conditions, text=_number(j, j.demo))
    return cells


def _unit(claim: Claim) -> str:
    """As it follows the number."""
    if claim.relation == "times_less":
        return "×"
    if claim.relation in ("percent_of", "percent_less"):
        return " %"
    if claim.relation == "value" and claim.kind == "cost":
        return " G" if claim.refs[0].endswith(".macs") else " M"
    return ""


def _number(j: Judgement, value: float) -> str:
    """A margin or difference with its sign, a ratio with its unit, as many decimals as tell it from what is stated."""
    claim = j.claim
    if claim.kind == "clustering":
        return f"{value:+.{CLUSTERING_DECIMALS}f}"
    if claim.kind == "architecture":
        return f"{value:,.0f}" if claim.relation == "value" else f"{value:+,.0f}"
    if claim.relation == "times_less":
        return f"{value:.{RATIO_DECIMALS}f}×"
    if claim.relation in ("difference", "exceeds", "each_exceeds"):
        return f"{value:+.1f}"
    shown = 1 if j.stated is None else decimals(j.stated) + 1
    return f"{value:.{shown}f}{_unit(claim)}"


def _told(j: Judgement) -> str:
    """The claim in words: its quotation, the verdict, and what speaks for it."""
    reasons = [f"{'; '.join(j.why)}."] if j.why else []
    note = [j.claim.note] if j.claim.note else []
    verdict = f"Verdict: {j.verdict}" + (":" if reasons else ".")
    return " ".join([f'{_label(j.claim)} ({j.claim.where}): "{j.claim.quote}" {verdict}', *reasons, *note])
