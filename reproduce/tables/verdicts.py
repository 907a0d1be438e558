"""Every checkable sentence of the paper with a verdict: from its own tables, and from what was measured here. No torch.

    for judged in judge_claims(load_paper(), records):
        print(judged.claim.key, judged.verdict)

Two layers are kept apart. `by_tables` is what the paper's own numbers say; `verdict` needs a measurement too, wherever
a sentence speaks of accuracy, clustering or cost. Costs come from cost records, the rest from paper-scale runs by the
paper's recipes. Demo-scale numbers are shown and never decide.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.families import PAPER_MODELS as MODELS
from reproduce.experiments.paper_recipes import AST, MAST
from reproduce.paper import Claim, Paper
from reproduce.records.clusterings import PRIMARY, PROTOCOLS, clusterings_of, runs_to_cluster
from reproduce.records.records import Records
from reproduce.records.runs import CostRun, DataRun, ModelRun, TrainedRun, canonical_config
from reproduce.records.selection import cost_of, demo_groups, paper_runs

HOLDS = "holds"
BY_CONVENTION = "holds only under a stated convention"
CONTRADICTED = "contradicted by the paper's own table"
NOT_CONFIRMED = "not confirmed by the runs here"
UNDECIDED = "not decided by the runs here"
NOT_RUN = "not run"
FOR_THE_EYE = "for the eye"
VERDICTS = (HOLDS, BY_CONVENTION, CONTRADICTED, NOT_CONFIRMED, UNDECIDED, NOT_RUN, FOR_THE_EYE)
COST_KINDS = ("cost", "cost_ratio", "architecture")
RUN_KINDS = ("accuracy_gain", "ablation_order", "clustering")
CUT = "the number is cut, not rounded"
MODULE_ONLY = "MACs are counted module-only, without the products of attention"
DEAD_WEIGHTS = "AST's two unused ImageNet heads are counted"
ABOUT = 0.1  # "about 25 %": within a tenth of it
GIGA, MEGA, PER_CENT, NORMAL_95 = 1e9, 1e6, 100.0, 1.96


@dataclass(frozen=True)
class Judgement:
    """One claim with its verdicts.

    Args:
        claim: see `paper.Claim`.
        stated: the number of the sentence, None where it states none.
        implied: what the paper's own tables give for it (of an order: the margin, which must be above 0).
        by_tables: HOLDS, BY_CONVENTION, CONTRADICTED or FOR_THE_EYE, from the paper alone.
        measured: the same number from our records, counted as the paper counts; None where not run.
        plain: for costs, the same with every product and no unused weight, where that differs.
        demo: the same number at demo scale, which decides nothing. demo_conditions: of what.
        verdict: one of VERDICTS.
        why: the reasons of the verdict, in sentences.
        conditions: what `measured` was measured under, or why it was not run.
    """

    claim: Claim
    stated: float | None
    implied: float | None
    by_tables: str
    measured: float | None
    plain: float | None
    demo: float | None
    demo_conditions: str
    verdict: str
    why: tuple[str, ...]
    conditions: str


@dataclass(frozen=True)
class _Value:
    """A measured number of a ref.

    half_width: of its 95 % interval over test clips, for accuracies. seeds_half: of that over training runs, by
    Student's t; None for a single run. records: those behind it.
    """

    value: float
    half_width: float | None = None
    seeds_half: float | None = None
    records: tuple[ModelRun, ...] = ()


def judge_claims(paper: Paper, records: Records) -> tuple[Judgement, ...]:
    """Every claim of the paper, in the paper's order."""
    return tuple(_judge(paper, claim, records) for claim in paper.claims)


def _judge(paper: Paper, claim: Claim, records: Records) -> Judgement:
    implied = claim.implied(paper.claim_values(claim))
    by_tables, readings = _by_tables(paper, claim, implied)
    if claim.kind in COST_KINDS:
        return _judge_cost(paper, claim, records, implied, by_tables, readings)
    if claim.kind in RUN_KINDS:
        return _judge_runs(paper, claim, records, implied, by_tables, readings)
    why = [_of_tables(paper, claim, implied), *_under(readings)]
    verdict, conditions = by_tables, "the paper's own numbers decide"
    if claim.kind == "visual":
        drawn = any(runs_to_cluster(records, "paper").values())
        verdict = FOR_THE_EYE if drawn else NOT_RUN
        conditions = "see figure2" if drawn else "figure2 has no paper-scale run to draw"
        why = [] if drawn else ["figure2 has no paper-scale run to draw"]
    stated = paper.stated(claim)
    return Judgement(
        claim, stated, implied, by_tables, None, None, None, "", verdict, tuple(w for w in why if w), conditions
    )


# --- the paper's own tables ---


def _by_tables(paper: Paper, claim: Claim, implied: float | None) -> tuple[str, list[str]]:
    """Verdict of the paper's own numbers, and the conventions that it rests on."""
    conventions = [claim.convention] if claim.convention else []
    if claim.kind == "visual":
        return FOR_THE_EYE, conventions
    if implied is not None:
        reading = _agrees(claim, implied, paper.stated(claim))
        if reading is None:
            return CONTRADICTED, conventions
        conventions += [reading] if reading else []
    return (BY_CONVENTION if conventions else HOLDS), conventions


def _agrees(claim: Claim, value: float, stated: float | None) -> str | None:
    """Whether `value` is what the claim says: "" if it is, the convention if it is by one alone, None if it is not.

    A number agrees as far as it is printed. An order has no number: its margin must be above 0.
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
    # The paper cuts now and then (51.3 of 51.38), so that is a convention; nobody rounds 4.04 up to 5.
    cut = math.floor(value / step + 1e-9) * step
    return CUT if math.isclose(cut, stated) else None


def decimals(printed: float) -> int:
    """Decimals of a number as the paper prints it: 1 of 22.2, 0 of 24."""
    text = f"{printed:g}"
    return len(text.partition(".")[2])


def _of_tables(paper: Paper, claim: Claim, implied: float | None) -> str:
    """The comparison behind `by_tables`, where a number is stated and the tables give another."""
    stated = paper.stated(claim)
    if implied is None or stated is None or claim.relation == "value":
        return ""
    word = {"number": "it says", "about": "it says about", "over": "it says over"}[claim.stated_as]
    shown = f"{implied:.{decimals(stated) + (2 if claim.relation == 'times_less' else 1)}f}"
    return f"the paper's own numbers give {shown}, {word} {stated:g}"


def _under(conventions: Iterable[str]) -> list[str]:
    found = list(conventions)
    return [f"it holds only if {'; and if '.join(found)}"] if found else []


# --- costs, measured live ---


def _judge_cost(
    paper: Paper,
    claim: Claim,
    records: Records,
    implied: float | None,
    by_tables: str,
    conventions: list[str],
) -> Judgement:
    """Of parameters, MACs and token grids. The paper's counting decides, the plain one tells whether it must."""
    counted = _values(claim, lambda ref: _cost_value(paper, ref, records, "paper"))
    plain = _values(claim, lambda ref: _cost_value(paper, ref, records, "plain"))
    stated = paper.stated(claim)
    why = [_of_tables(paper, claim, implied)]
    if counted is None or plain is None:
        verdict = CONTRADICTED if by_tables == CONTRADICTED else NOT_RUN
        missing = "no cost record of ast_base and mast_base"
        why = [*why, *_under(conventions), missing]
        return Judgement(
            claim, stated, implied, by_tables, None, None, None, "", verdict, tuple(w for w in why if w), missing
        )
    measured, by_plain = (claim.implied([v.value for v in values]) for values in (counted, plain))
    assert measured is not None and by_plain is not None  # every cost claim has a relation
    reading = _agrees(claim, measured, stated)
    needed = list(dict.fromkeys([*conventions, *([reading] if reading else [])]))
    if reading is not None and _agrees(claim, by_plain, stated) is None:
        needed += [rule for rule in _counting_rules(claim) if rule not in needed]
    if by_tables == CONTRADICTED:
        verdict = CONTRADICTED
    elif reading is None:
        verdict = NOT_CONFIRMED
        why.append("the models as built give another number")
    else:
        verdict = BY_CONVENTION if needed else HOLDS
    if verdict == BY_CONVENTION:
        why += _under(needed)
    cost = counted[0].records[0]
    assert isinstance(cost, CostRun)
    mels, frames = cost.input_size
    return Judgement(
        claim,
        stated,
        implied,
        by_tables,
        measured,
        None if math.isclose(by_plain, measured) else by_plain,
        None,
        "",
        verdict,
        tuple(w for w in why if w),
        f"the models as built, 1 x {mels} x {frames}, counted as the paper counts",
    )


def _counting_rules(claim: Claim) -> list[str]:
    """What is peculiar to the paper's way of counting the claim's numbers."""
    if claim.kind == "architecture":
        return []  # prefix tokens, of which the claim's own convention speaks
    return [MODULE_ONLY] if any(ref.endswith(".macs") for ref in claim.refs) else [DEAD_WEIGHTS]


def _cost_value(paper: Paper, ref: str, records: Records, rule: str) -> _Value | None:
    """A number of Tables 1 or 5 from the models as built, by the "paper" rule or the "plain" one."""
    table, *path = ref.split(".")
    if table == "table1":
        row, model, quantity = path
        return _shape_value(paper, row, model, quantity, cost_of(records, MODELS[model]), rule)
    row, quantity = path
    ours = paper.table(table).row(row).measured_as
    record = cost_of(records, MODELS[ours]) if ours else None
    if record is None:
        return None
    metric, unit = {
        ("macs", "paper"): ("macs_module_only", GIGA),
        ("macs", "plain"): ("macs_full", GIGA),
        ("params", "paper"): ("parameters_paper", MEGA),
        ("params", "plain"): ("parameters", MEGA),
    }[quantity, rule]
    return _Value(record.metric(metric) / unit, records=(record,))


def _shape_value(paper: Paper, row: str, model: str, quantity: str, record: CostRun | None, rule: str) -> _Value | None:
    """Width or grid of the row's last block, as the model was built; the plain rule counts prefix tokens too."""
    if record is None:
        return None
    blocks = [n for n in paper.architecture.row(row).blocks if n in paper.architecture.blocks(model)]
    shape = next(shape for shape in record.shapes if shape.block == f"block {blocks[-1]}")
    prefix = shape.prefix_tokens if rule == "plain" and quantity == "tokens" else 0
    return _Value(getattr(shape, quantity) + prefix, records=(record,))


# --- accuracies, ablations and clustering, from runs ---


def _judge_runs(
    paper: Paper,
    claim: Claim,
    records: Records,
    implied: float | None,
    by_tables: str,
    conventions: list[str],
) -> Judgement:
    values = _values(claim, lambda ref: _run_value(ref, records))
    demo, demo_conditions = _demo(claim, records)
    stated = paper.stated(claim)
    why = [_of_tables(paper, claim, implied) if by_tables == CONTRADICTED else "", *_under(conventions)]
    if values is None:
        absent = [ref for ref in claim.refs if _run_value(ref, records) is None]
        tables = list(dict.fromkeys(ref.partition(".")[0] for ref in absent))
        conditions = f"no paper-scale runs for {', '.join(tables)}"
        why.insert(0, conditions)
        measured, verdict = None, CONTRADICTED if by_tables == CONTRADICTED else NOT_RUN
    else:
        measured = claim.implied([v.value for v in values])
        assert measured is not None  # every claim about runs has a relation
        found, reason = _found(measured, values, stated)
        why.append(reason)
        verdict = by_tables if found == HOLDS or by_tables == CONTRADICTED else found
        if claim.kind == "clustering" and verdict == HOLDS:
            verdict = BY_CONVENTION
            why += _under([f"Table 6 means protocol {PRIMARY}: {PROTOCOLS[PRIMARY]}"])
        conditions = f"paper scale, {_runs_text(values)}"
    return Judgement(
        claim,
        stated,
        implied,
        by_tables,
        measured,
        None,
        demo,
        demo_conditions,
        verdict,
        tuple(w for w in why if w),
        conditions,
    )


def _found(measured: float, values: Sequence[_Value], stated: float | None) -> tuple[str, str]:
    """HOLDS, NOT_CONFIRMED or UNDECIDED by the runs alone, and how.

    An order must be clear of chance. A stated gain must lie within the interval of the measured one, and that interval
    must not reach down to no gain: what could be either decides nothing. The models are taken as tested on clips of
    their own, which asks for more than a paired test would.
    """
    noise = _noise(values)
    if noise is None:
        return (
            UNDECIDED,
            f"the runs here have a margin of {measured:+.3g}, but single runs without an interval among them",
        )
    over = "test clips and seeds" if any(v.seeds_half is not None for v in values) else "test clips"
    if all(v.half_width is None for v in values):
        over = "seeds"
    interval = f"[{measured - noise:.3g}, {measured + noise:.3g}] (95 %, unpaired, over {over})"
    if stated is None:
        found = UNDECIDED if abs(measured) <= noise else HOLDS if measured > 0 else NOT_CONFIRMED
        return found, f"the runs here have a margin of {measured:+.3g} {interval}"
    near = abs(measured - stated) <= noise
    told = f"the runs here gain {measured:.1f} {interval}, {'which agrees with' if near else 'and not'} {stated:g}"
    if not near:
        return NOT_CONFIRMED, told
    return (HOLDS, told) if measured > noise else (UNDECIDED, f"{told}, but with no gain as well")


def _noise(values: Sequence[_Value]) -> float | None:
    """Half the 95 % interval of a difference of two of these numbers, the least certain ones.

    None where one of them has neither clips nor seeds to tell how far it is of chance.
    """
    squares = []
    for value in values:
        known = [half for half in (value.half_width, value.seeds_half) if half is not None]
        if not known:
            return None
        squares.append(math.fsum(half**2 for half in known))
    return math.sqrt(math.fsum(sorted(squares)[-2:]))


def _runs_text(values: Sequence[_Value]) -> str:
    seeds = {len(value.records) for value in values}
    shown = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    return f"{shown} record{'' if shown == '1' else 's'} a number"


def _values(claim: Claim, find: Callable[[str], _Value | None]) -> list[_Value] | None:
    """One value a ref, or None where one is missing or the claim has no relation to put them in."""
    if claim.relation is None:
        return None
    found = [find(ref) for ref in claim.refs]
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else None


@dataclass(frozen=True)
class _Source:
    """Which runs a number of the paper's tables is of."""

    dataset: str
    variant: str
    metric: str
    model: str
    recipe: str = MAST
    model_config: Mapping[str, Any] | None = None


ACCURACIES = {
    "table2": ("kinetics_sounds", "ks32", {"top1": "top1", "top5": "top5"}),
    "table3": ("vggsound", "", {"top1": "top1", "top5": "top5"}),
    "table4": ("epic_kitchens", "", {"verb": "verb_top1", "noun": "noun_top1", "action": "action_top1"}),
}


def _source(ref: str) -> _Source:
    """The runs that measure a ref. AST in Tables 2-4 is the real one, by MAST's protocol, never the quoted MBT."""
    table, row, column = ref.split(".")
    if table in ACCURACIES:
        dataset, variant, metrics = ACCURACIES[table]
        return _Source(dataset, variant, metrics[column], row)
    if table == "ablations":
        config = {"pool_strides": POOLING_ABLATIONS[row]}
        return _Source("audioset", "balanced", "map", "mast", model_config=config)
    if table == "table5":
        model = "ast" if row == "ast_our_as" else row
        return _Source("audioset", column, "map", model, AST if model == "ast" else MAST)
    raise ValueError(f"no run measures {ref}")


def _run_value(ref: str, records: Records) -> _Value | None:
    if ref.startswith("table6."):
        _, model, metric = ref.split(".")
        return _clustering_value(records, "paper", model, metric)
    s = _source(ref)
    runs = paper_runs(
        records, MODELS[s.model], s.dataset, variant=s.variant, model_config=s.model_config, recipe_name=s.recipe
    )
    return _mean_of(runs, s.metric)


def _mean_of(runs: Sequence[TrainedRun], metric: str) -> _Value | None:
    """Mean over seeds, with the normal interval over test clips where the metric is a share of them."""
    scores = [run.metrics.get(metric, math.nan) for run in runs]
    known = [score for score in scores if not math.isnan(score)]
    if not known or len(known) < len(scores):
        return None
    mean = statistics.fmean(known)
    half = None
    if metric != "map":
        share, clips = mean / PER_CENT, runs[0].test_kept
        half = NORMAL_95 * PER_CENT * math.sqrt(max(share * (1 - share), 0.0) / clips)
    return _Value(mean, half, _seeds_half(known), tuple(runs))


def _seeds_half(scores: Sequence[float]) -> float | None:
    """Half the 95 % interval of a mean over training runs."""
    if len(scores) < 2:
        return None
    from scipy.special import stdtrit  # late: every command imports this file

    quantile = float(stdtrit(len(scores) - 1, 0.975))
    return quantile * statistics.stdev(scores) / math.sqrt(len(scores))


def _clustering_value(records: Records, scale: str, model: str, metric: str) -> _Value | None:
    """Mean over training runs of their means over clustering seeds, by the primary reading of Table 6.

    The spread is that over training runs: clusterings of one run are no replicates of the model.
    """
    found: list[ModelRun] = []
    means = []
    for run in runs_to_cluster(records, scale)[model]:
        clusterings = clusterings_of(records, run, PRIMARY)
        scores = [record.metrics[metric] for record in clusterings]
        known = [score for score in scores if not math.isnan(score)]
        if len(known) < len(scores):
            return None
        if known:
            means.append(statistics.fmean(known))
            found += clusterings
    return _Value(statistics.fmean(means), None, _seeds_half(means), tuple(found)) if means else None


# --- demo scale: shown, never decides ---


def _demo(claim: Claim, records: Records) -> tuple[float | None, str]:
    values = _values(claim, lambda ref: _demo_value(ref, records))
    if values is None:
        return None, ""
    standin = any(isinstance(record, DataRun) and record.standin for value in values for record in value.records)
    models = ", ".join(dict.fromkeys(record.model for value in values for record in value.records))
    data = "synthetic stand-ins" if standin else "other data or a part of the real"
    return claim.implied([v.value for v in values]), f"demo scale, {models}, {data}: decides nothing"


def _demo_value(ref: str, records: Records) -> _Value | None:
    """From the newest comparison at demo scale on the data set (or its stand-in)."""
    if ref.startswith("table6."):
        _, model, metric = ref.split(".")
        return _clustering_value(records, "demo", model, metric)
    s = _source(ref)
    groups = [g for g in demo_groups(records, s.dataset) if g[0].variant == s.variant]
    group = max(groups, key=lambda runs: max(run.created for run in runs), default=[])
    chosen = [
        run
        for run in group
        if run.model.partition("_")[0] == s.model
        and canonical_config(run.model, run.model_config) == canonical_config(run.model, s.model_config or {})
    ]
    return _mean_of(chosen, s.metric)
