"""The measured numbers behind the paper's claims: costs of the models as built, scores of runs, clusterings. No torch.

A ref ("table5.mast.macs") names a number of the paper; these functions find the same number in the records.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.families import PAPER_MODELS
from reproduce.experiments.paper_recipes import AST_RECIPES, MAST
from reproduce.experiments.paper_studies import PaperStudy, paper_study, studies_of
from reproduce.metrics.intervals import Z_95, t_95
from reproduce.paper import Claim, Paper
from reproduce.records.clusterings import DATASET, PRIMARY, clusterings_of, runs_to_cluster
from reproduce.records.measured_runs import CostRun
from reproduce.records.records import Records
from reproduce.records.runs import ClusteringRun, DataRun, ModelRun, TrainedRun, canonical_config
from reproduce.records.selection import cost_of, demo_groups, paper_runs
from reproduce.tables.base import GIGA, MEGA

PAPER_RULE, PLAIN_RULE = "paper", "plain"  # ways to count costs: the paper's, and every product without dead weights
COST_METRICS = {
    ("macs", PAPER_RULE): ("macs_module_only", GIGA),
    ("macs", PLAIN_RULE): ("macs_full", GIGA),
    ("params", PAPER_RULE): ("parameters_paper", MEGA),
    ("params", PLAIN_RULE): ("parameters", MEGA),
}


@dataclass(frozen=True, kw_only=True)
class Value:
    """A measured number of a ref.

    Args:
        value: in the unit of the paper's number.
        metric: of the runs; "" for costs.
        clips_half: half its 95 % interval over test clips, for accuracies.
        seeds_half: half its 95 % interval over training runs, by Student's t; None for a single run.
        records: behind it.
    """

    value: float
    metric: str = ""
    clips_half: float | None = None
    seeds_half: float | None = None
    records: tuple[ModelRun, ...] = ()


def values_of(claim: Claim, find: Callable[[str], Value | None]) -> list[Value] | None:
    """One value per ref, or None where one is missing or the claim has no relation to put them in."""
    if claim.relation is None:
        return None
    values = [find(ref) for ref in claim.refs]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


# --- costs ---


def cost_value(paper: Paper, ref: str, records: Records, rule: str) -> Value | None:
    """A number of Tables 1 or 5 from the models as built, by PAPER_RULE or PLAIN_RULE."""
    table, *path = ref.split(".")
    if table == "table1":
        row, model, quantity = path
        cost = cost_of(records, PAPER_MODELS[model])
        return None if cost is None else _shape_value(paper, row, model, quantity, cost, rule)
    row, quantity = path
    family = paper.table(table).row(row).measured_as
    cost = cost_of(records, PAPER_MODELS[family]) if family else None
    if cost is None:
        return None
    metric, unit = COST_METRICS[quantity, rule]
    return Value(value=cost.metric(metric) / unit, records=(cost,))


def _shape_value(paper: Paper, row: str, model: str, quantity: str, cost: CostRun, rule: str) -> Value:
    """Width or grid of the row's last block, as the model was built; the plain rule counts prefix tokens too."""
    blocks = [n for n in paper.architecture.row(row).blocks if n in paper.architecture.blocks(model)]
    shape = next(shape for shape in cost.shapes if shape.block == f"block {blocks[-1]}")
    prefix = shape.prefix_tokens if rule == PLAIN_RULE and quantity == "tokens" else 0
    return Value(value=getattr(shape, quantity) + prefix, records=(cost,))


# --- accuracies, ablations and clustering ---


@dataclass(frozen=True, kw_only=True)
class Source:
    """The runs that a number of the paper's tables is of.

    Args:
        study: of the paper.
        metric: of the runs.
        family: "ast" or "mast".
        recipes: names of the recipes that they may be trained by.
        model_config: overrides of the model's config.
    """

    study: PaperStudy
    metric: str
    family: str
    recipes: tuple[str, ...] = (MAST,)
    model_config: Mapping[str, Any] | None = None


def source_of(ref: str) -> Source:
    """The runs that measure a ref. AST in Tables 2-4 is the real one, never the quoted MBT.

    Raises:
        ValueError: no run measures the ref.
    """
    table, row, column = ref.split(".")
    studies = studies_of(table)
    if table == "ablations":
        config = {"pool_strides": POOLING_ABLATIONS[row]}
        return Source(study=studies[0], metric="map", family="mast", model_config=config)
    for study in studies:
        if study.table == table and column in study.metrics:
            family = "ast" if row == "ast_our_as" else row
            recipes = AST_RECIPES if family == "ast" else (MAST,)
            return Source(study=study, metric=study.metrics[column], family=family, recipes=recipes)
    raise ValueError(f"no run measures {ref}")


def run_value(ref: str, records: Records) -> Value | None:
    """A number of the paper's tables from paper-scale runs; of AST by several recipes, that of the stronger."""
    if ref.startswith("table6."):
        _, model, metric = ref.split(".")
        return _clustering_value(records, "paper", model, metric)
    source = source_of(ref)
    values = [value for recipe in source.recipes if (value := _value_by(recipe, source, records)) is not None]
    return max(values, key=lambda value: value.value, default=None)


def absent_baselines(claim: Claim, records: Records) -> list[str]:
    """The recipes of AST that a claim compares MAST with and that have no runs, a line each."""
    lines = []
    for ref in claim.refs:
        table, row, *_ = ref.split(".")
        if table == "table6" and row == "ast":
            source = Source(study=paper_study(DATASET), metric="top1", family="ast", recipes=AST_RECIPES)
        elif table in ("table2", "table3", "table4", "table5"):
            source = source_of(ref)
        else:
            continue
        absent = [recipe for recipe in source.recipes if _value_by(recipe, source, records) is None]
        lines += [f'AST by recipe "{recipe}" was not run on {source.study.name}' for recipe in absent]
    return list(dict.fromkeys(lines))


def _value_by(recipe: str, source: Source, records: Records) -> Value | None:
    runs = paper_runs(
        records,
        PAPER_MODELS[source.family],
        source.study.dataset,
        variant=source.study.variant,
        model_config=source.model_config,
        recipe_name=recipe,
    )
    return _mean_of(runs, source.metric)


def demo_value(ref: str, records: Records) -> Value | None:
    """The same number from the newest comparison at demo scale on real recordings: it decides nothing.

    Runs on a synthetic stand-in compare nothing, and give no number.
    """
    if ref.startswith("table6."):
        _, model, metric = ref.split(".")
        value = _clustering_value(records, "demo", model, metric)
        return None if value is None or _is_standin(value) else value
    source = source_of(ref)
    groups = [
        group
        for group in demo_groups(records, source.study.dataset)
        if group[0].variant == source.study.variant and not group[0].standin
    ]
    group = max(groups, key=lambda runs: max(run.created for run in runs), default=[])
    chosen = [
        run
        for run in group
        if run.family == source.family
        and canonical_config(run.model, run.model_config) == canonical_config(run.model, source.model_config or {})
    ]
    return _mean_of(chosen, source.metric)


def _is_standin(value: Value) -> bool:
    """Whether a run behind the number read a synthetic stand-in."""
    return any(isinstance(record, DataRun) and record.standin is not None for record in value.records)


def _mean_of(runs: Sequence[TrainedRun], metric: str) -> Value | None:
    """Mean over seeds, with the normal interval over test clips where the metric is a share of them."""
    scores = [run.metrics.get(metric, math.nan) for run in runs]
    if not scores or any(map(math.isnan, scores)):
        return None
    mean, half = statistics.fmean(scores), None
    if metric != "map":
        share = mean / 100.0
        half = Z_95 * 100.0 * math.sqrt(max(share * (1 - share), 0.0) / runs[0].test_kept)
    return Value(value=mean, metric=metric, clips_half=half, seeds_half=_seeds_half(scores), records=tuple(runs))


def _seeds_half(scores: Sequence[float]) -> float | None:
    """Half the 95 % interval of a mean over training runs."""
    if len(scores) < 2:
        return None
    return t_95(len(scores) - 1) * statistics.stdev(scores) / math.sqrt(len(scores))


def _clustering_value(records: Records, scale: str, model: str, metric: str) -> Value | None:
    """Mean over training runs of their means over clustering seeds, by the primary reading of Table 6.

    The spread is that over training runs: clusterings of one run are no replicates of the model.
    """
    behind: list[ClusteringRun] = []
    means = []
    for run in runs_to_cluster(records, scale)[model]:
        clusterings = clusterings_of(records, run, PRIMARY)
        scores = [clustering.metrics[metric] for clustering in clusterings]
        if any(map(math.isnan, scores)):
            return None
        if scores:
            means.append(statistics.fmean(scores))
            behind += clusterings
    if not means:
        return None
    return Value(value=statistics.fmean(means), metric=metric, seeds_half=_seeds_half(means), records=tuple(behind))
