"""Every checkable sentence of the paper with a verdict: from its own tables, and from what was measured here. No torch.

    for judgement in judge_claims(load_paper(), records, RunScores(records_dir)):
        print(judgement.claim.sentence, judgement.verdict)

Two layers are kept apart. `by_tables` is the verdict of the paper's own numbers; `verdict` needs a measurement too,
wherever a sentence is about accuracy, clustering or cost. Costs come from cost records, everything else from
paper-scale runs by the paper's recipes. Demo-scale numbers on real recordings are shown and never decide; synthetic
stand-ins give none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reproduce.paper import Claim, Paper
from reproduce.records.clusterings import PRIMARY, PROTOCOLS, runs_to_cluster
from reproduce.records.measured_runs import CostRun
from reproduce.records.records import Records
from reproduce.records.runs import TrainedRun
from reproduce.tables.claim_values import (
    PAPER_RULE,
    PLAIN_RULE,
    Value,
    absent_baselines,
    cost_value,
    demo_value,
    run_value,
    values_of,
)
from reproduce.tables.margins import Margin, margin
from reproduce.tables.scores import RunScores

HOLDS = "holds"
BY_CONVENTION = "holds only under a stated convention"
CONTRADICTED = "contradicted by the paper itself"
NOT_CONFIRMED = "not confirmed by the runs here"
UNDECIDED = "not decided by the runs here"
NOT_RUN = "not run"
VISUAL = "visual, not checked"
VERDICTS = (HOLDS, BY_CONVENTION, CONTRADICTED, NOT_CONFIRMED, UNDECIDED, NOT_RUN, VISUAL)
COST_KINDS = ("cost", "cost_ratio", "architecture")
RUN_KINDS = ("accuracy_gain", "ablation_order", "clustering")
CUT = "the number is cut, not rounded"
MODULE_ONLY = "MACs are counted module-only, without the products of attention"
DEAD_WEIGHTS = "AST's two unused ImageNet heads are counted"
ABOUT = 0.1  # "about 25 %": within a tenth of it
NO_FIGURE = "figure2 has no paper-scale run to draw"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One claim with its verdicts.

    Args:
        claim: see `paper.Claim`.
        stated: the number of the sentence, None where it states none.
        implied: the number that the paper's own tables give (for an order the margin, which must be above 0).
        by_tables: HOLDS, BY_CONVENTION, CONTRADICTED or VISUAL, from the paper alone.
        conventions: what `by_tables` rests on.
        measured: the same number from our records, counted as the paper counts; None where not run.
        plain: for costs, the same with every product and no unused weight, where that differs.
        demo: the same number at demo scale, which decides nothing.
        demo_conditions: what `demo` was measured under.
        verdict: one of VERDICTS.
        why: the reasons of the verdict, in sentences.
        conditions: what `measured` was measured under, or why it was not run.
    """

    claim: Claim
    stated: float | None
    implied: float | None
    by_tables: str
    conventions: tuple[str, ...] = ()
    measured: float | None = None
    plain: float | None = None
    demo: float | None = None
    demo_conditions: str = ""
    verdict: str = NOT_RUN
    why: tuple[str, ...] = ()
    conditions: str = ""


def judge_claims(paper: Paper, records: Records, scores: RunScores) -> tuple[Judgement, ...]:
    """Every claim of the paper, in the paper's order.

    Args:
        paper: the quoted numbers and sentences.
        records: the measurements.
        scores: of the records' folder, for the paired bootstrap of stored predictions.

    Raises:
        InputError: stored predictions or clusters cannot be read.
    """
    return tuple(_judge(paper, claim, records, scores) for claim in paper.claims)


def _judge(paper: Paper, claim: Claim, records: Records, scores: RunScores) -> Judgement:
    judgement = _from_tables(paper, claim)
    if claim.kind in COST_KINDS:
        return _with_costs(judgement, paper, records)
    if claim.kind in RUN_KINDS:
        return _with_runs(judgement, records, scores)
    if claim.kind == "visual":
        if any(runs_to_cluster(records, "paper").values()):
            return replace(judgement, verdict=VISUAL, conditions="see figure2")
        return replace(judgement, verdict=NOT_RUN, why=(NO_FIGURE,), conditions=NO_FIGURE)
    conventions = [] if claim.contradicted_by else _under(judgement.conventions)
    why = _sentences(_of_tables(judgement), claim.contradicted_by, *conventions)
    return replace(judgement, verdict=judgement.by_tables, why=why, conditions="the paper's own numbers decide")


def _sentences(*parts: str) -> tuple[str, ...]:
    return tuple(part for part in parts if part)


# --- the paper's own tables ---


def _from_tables(paper: Paper, claim: Claim) -> Judgement:
    """The verdict of the paper's own numbers alone."""
    implied, stated = claim.implied(paper.claim_values(claim)), paper.stated(claim)
    conventions = [claim.convention] if claim.convention else []
    verdict = VISUAL if claim.kind == "visual" else CONTRADICTED if claim.contradicted_by else ""
    if not verdict and implied is not None:
        reading = _agrees(claim, implied, stated)
        if reading is None:
            verdict = CONTRADICTED
        elif reading:
            conventions.append(reading)
    verdict = verdict or (BY_CONVENTION if conventions else HOLDS)
    return Judgement(claim=claim, stated=stated, implied=implied, by_tables=verdict, conventions=tuple(conventions))


def _agrees(claim: Claim, value: float, stated: float | None) -> str | None:
    """Whether `value` agrees with the claim: "" if it does, the convention if it does by one alone, None if not.

    A number agrees to the digits that are printed. An order has no number: its margin must be above 0.
    """
    if stated is None:
        return "" if value > 0 else None
    if claim.stated_as == "over":
        return "" if value > stated else None
    if claim.stated_as == "about":
        return "" if abs(value - stated) <= ABOUT * stated else None
    step = 10.0 ** -decimals(stated)
    if math.isclose(round(value / step) * step, stated):
        return ""
    # The paper cuts now and then (51.3 of 51.38), so that is a convention; 4.04 is not rounded up to 5.
    cut = math.floor(value / step + 1e-9) * step
    return CUT if math.isclose(cut, stated) else None


def decimals(printed: float) -> int:
    """Decimals of a number as the paper prints it: 1 of 22.2, 0 of 24."""
    return len(f"{printed:g}".partition(".")[2])


def _of_tables(judgement: Judgement) -> str:
    """The comparison behind `by_tables`, where a number is stated and the tables give another; "" otherwise."""
    claim, implied, stated = judgement.claim, judgement.implied, judgement.stated
    if implied is None or stated is None or claim.relation == "value":
        return ""
    word = {"number": "it states", "about": "it states about", "over": "it states over"}[claim.stated_as]
    shown = f"{implied:.{decimals(stated) + (2 if claim.relation == 'times_less' else 1)}f}"
    return f"the paper's own numbers give {shown}, {word} {stated:g}"


def _under(conventions: Iterable[str]) -> list[str]:
    named = list(conventions)
    return [f"it holds only if {'; and if '.join(named)}"] if named else []


# --- costs, measured live ---


def _with_costs(judgement: Judgement, paper: Paper, records: Records) -> Judgement:
    """The verdict on parameters, MACs and token grids.

    The paper's way of counting decides; the plain one shows whether the claim depends on it.
    """
    claim, contradicted = judgement.claim, judgement.by_tables == CONTRADICTED
    counted, plain = (_costs(claim, paper, records, rule) for rule in (PAPER_RULE, PLAIN_RULE))
    comparison = _of_tables(judgement)
    if counted is None or plain is None:
        missing = "no cost record of ast_base and mast_base"
        why = _sentences(comparison, *_under(judgement.conventions), missing)
        return replace(judgement, verdict=CONTRADICTED if contradicted else NOT_RUN, why=why, conditions=missing)
    measured, by_plain = (claim.implied([v.value for v in values]) for values in (counted, plain))
    assert measured is not None and by_plain is not None  # every cost claim has a relation
    reading = _agrees(claim, measured, judgement.stated)
    needed = list(dict.fromkeys([*judgement.conventions, *([reading] if reading else [])]))
    if reading is not None and _agrees(claim, by_plain, judgement.stated) is None:
        needed += [rule for rule in _counting_rules(claim) if rule not in needed]
    if contradicted:
        verdict, reasons = CONTRADICTED, list[str]()
    elif reading is None:
        verdict, reasons = NOT_CONFIRMED, ["the models as built give another number"]
    else:
        verdict, reasons = (BY_CONVENTION, _under(needed)) if needed else (HOLDS, [])
    return replace(
        judgement,
        measured=measured,
        plain=None if math.isclose(by_plain, measured) else by_plain,
        verdict=verdict,
        why=_sentences(comparison, *reasons),
        conditions=f"the models as built, {_input_text(counted)}, counted as the paper counts",
    )


def _costs(claim: Claim, paper: Paper, records: Records, rule: str) -> list[Value] | None:
    return values_of(claim, lambda ref: cost_value(paper, ref, records, rule))


def _input_text(values: Sequence[Value]) -> str:
    cost = values[0].records[0]
    assert isinstance(cost, CostRun)
    return f"1 x {cost.input_size[0]} x {cost.input_size[1]}"


def _counting_rules(claim: Claim) -> list[str]:
    """What is peculiar to the paper's way of counting the claim's numbers."""
    if claim.kind == "architecture":
        return []  # prefix tokens, which the claim's own convention is about
    return [MODULE_ONLY] if any(ref.endswith(".macs") for ref in claim.refs) else [DEAD_WEIGHTS]


# --- accuracies, ablations and clustering, from runs ---


def _with_runs(judgement: Judgement, records: Records, scores: RunScores) -> Judgement:
    claim, contradicted = judgement.claim, judgement.by_tables == CONTRADICTED
    judgement = _with_demo(judgement, records)
    values = values_of(claim, lambda ref: run_value(ref, records))
    why = [_of_tables(judgement) if contradicted else "", *_under(judgement.conventions)]
    if values is None:
        absent = [ref for ref in claim.refs if run_value(ref, records) is None]
        tables = dict.fromkeys(ref.partition(".")[0] for ref in absent)
        conditions = f"no paper-scale runs for {', '.join(tables)}"
        verdict = CONTRADICTED if contradicted else NOT_RUN
        return replace(judgement, verdict=verdict, why=_sentences(conditions, *why), conditions=conditions)
    measured = claim.implied([v.value for v in values])
    assert measured is not None  # every claim about runs has a relation, and pairs
    by_ref = dict(zip(claim.refs, values, strict=True))
    margins = {pair: margin(by_ref[pair[0]], by_ref[pair[1]], scores) for pair in claim.pairs()}
    by_runs, reason = _by_runs(margins, judgement.stated)
    absent = absent_baselines(claim, records) if claim.kind != "ablation_order" else []
    if by_runs == HOLDS and absent:
        by_runs, reason = UNDECIDED, f"{reason}; {'; '.join(absent)}, and may be stronger"
    verdict = judgement.by_tables if by_runs == HOLDS or contradicted else by_runs
    why.append(reason)
    if claim.kind == "clustering" and verdict == HOLDS:
        verdict = BY_CONVENTION
        why += _under([f"Table 6 means protocol {PRIMARY}: {PROTOCOLS[PRIMARY]}"])
    conditions = f"paper scale, {_runs_text(values)}{_baseline_text(by_ref)}"
    return replace(judgement, measured=measured, verdict=verdict, why=_sentences(*why), conditions=conditions)


def _by_runs(margins: Mapping[tuple[str, str], Margin], stated: float | None) -> tuple[str, str]:
    """HOLDS, NOT_CONFIRMED or UNDECIDED by the runs alone, and the reason.

    A stated gain must be within the interval of the measured one, and that interval must exclude no gain: what could be
    either decides nothing. An order is judged pair by pair: every pair must be clear of chance, and a single one that
    is the other way round beyond chance refutes it.
    """
    by_pair = {pair: _of_gain(m, stated) if stated is not None else _of_order(m) for pair, m in margins.items()}
    verdict = next(v for v in (NOT_CONFIRMED, UNDECIDED, HOLDS) if v in by_pair.values())
    deciding = [pair for pair, of_pair in by_pair.items() if of_pair == verdict]
    (ours, rival) = min(deciding, key=lambda pair: (margins[pair].interval or (-math.inf,))[0])
    worst = margins[ours, rival]
    if stated is not None and worst.interval is None:
        return verdict, f"the runs here gain {worst.text}"
    if stated is not None:
        agrees = worst.interval is not None and worst.interval[0] <= stated <= worst.interval[1]
        reason = f"the runs here gain {worst.text}, {'consistent with' if agrees else 'not'} {stated:g}"
        return verdict, reason + (", but also consistent with no gain" if agrees and verdict == UNDECIDED else "")
    which = f" of {ours} over {rival}, one of {len(margins)} pairs" if len(margins) > 1 else ""
    return verdict, f"the runs here have a margin{which} of {worst.text}"


def _of_order(pair: Margin) -> str:
    if pair.interval is None or pair.interval[0] <= 0 <= pair.interval[1]:
        return UNDECIDED
    return HOLDS if pair.interval[0] > 0 else NOT_CONFIRMED


def _of_gain(pair: Margin, stated: float) -> str:
    if pair.interval is None:
        return UNDECIDED
    low, high = pair.interval
    if not low <= stated <= high:
        return NOT_CONFIRMED
    return HOLDS if low > 0 else UNDECIDED


def _runs_text(values: Sequence[Value]) -> str:
    counts = {len(value.records) for value in values}
    shown = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"{shown} record{'' if shown == '1' else 's'} per number"


def _baseline_text(by_ref: Mapping[str, Value]) -> str:
    """By which recipe the AST of each number was trained: the stronger of those that were run."""
    recipes = {
        ref: record.recipe_name
        for ref, value in by_ref.items()
        for record in value.records
        if isinstance(record, TrainedRun) and record.family == "ast"
    }
    named = ", ".join(f'{ref} by recipe "{recipe}"' for ref, recipe in recipes.items())
    return f"; AST is the stronger of its recipes that were run: {named}" if named else ""


def _with_demo(judgement: Judgement, records: Records) -> Judgement:
    values = values_of(judgement.claim, lambda ref: demo_value(ref, records))
    if values is None:
        return judgement
    models = ", ".join(dict.fromkeys(record.model for value in values for record in value.records))
    return replace(
        judgement,
        demo=judgement.claim.implied([v.value for v in values]),
        demo_conditions=f"demo scale, {models}, other data or a part of the real data: decides nothing",
    )
