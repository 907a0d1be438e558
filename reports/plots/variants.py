"""Accuracy of MAST's pooling variants, and of AST, against the cost of one clip: the paper's and those run here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from reports.plots.base import (
    PAGE_WIDTH,
    Drawn,
    colour_of,
    finish,
    label_beside,
    legend_above,
    log_ticks,
    mark_handles,
    marker_of,
    tip,
)
from reports.scores import Score, headline_score
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.families import PAPER_MODELS
from reproduce.paper import Paper
from reproduce.records.measured_runs import CostRun
from reproduce.records.pooled import runs_of_all
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import cost_of, pooling_groups
from reproduce.tables import TableInputs, build
from reproduce.tables.base import GIGA

LABEL_CHARACTER = 0.011  # width of one character of a label, as a share of the axis


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model or pooling variant.

    Args:
        family: "ast" or "mast".
        label: beside the mark.
        macs: of one clip, module-only, in 10^9.
        value: score in per cent.
        interval: its 95 % interval, None where there is none.
        measured: whether it was measured here; else it is quoted from the paper.
        conditions: what it was measured under, for the page.
    """

    family: str
    label: str
    macs: float
    value: float
    interval: tuple[float, float] | None
    measured: bool
    conditions: str


def pooling_labels(paper: Paper) -> dict[str, str]:
    """Variant of `POOLING_ABLATIONS` -> what the paper's table calls it, without the model's name."""
    return {row.key: row.label for row in paper.table("ablations").rows}


def draw_ablations(inputs: TableInputs) -> Drawn | None:
    """The paper's mAP of its pooling variants and of AST, against what each costs here."""
    variants = list(_paper_variants(inputs))
    if len(variants) < 2:
        return None
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(PAGE_WIDTH, 2.9), layout="constrained")
    plot_variants(axes, variants)
    axes.set_ylabel("mAP (%)")
    legend_above(figure, mark_handles(("ast_base", "mast_base")))
    measured = ", filled marks are measured here at the paper's scale" if any(v.measured for v in variants) else ""
    return finish(
        figure,
        "The paper's pooling variants and AST on balanced AudioSet. Hollow marks are the paper's mAP (quoted; single "
        f"runs without an interval){measured}. MACs are counted here by the module-only rule. Removing a pooling step "
        "costs MACs and, by the paper's numbers, accuracy.",
        f"mAP against MACs of {len(variants)} models: " + "; ".join(f"{v.label} {v.value:.1f} %" for v in variants),
    )


def _paper_variants(inputs: TableInputs) -> Iterator[Variant]:
    table = build("ablations", inputs)
    cells = {row.key: row.cells for row in table.rows}
    quoted = inputs.paper.table("table5")
    ast = next(row for row in quoted.rows if row.measured_as == "ast")
    costs: dict[str, tuple[str, str, CostRun | None]] = {
        "ast": ("ast", "AST", cost_of(inputs.records, PAPER_MODELS["ast"]))
    }
    for key, label in pooling_labels(inputs.paper).items():
        config = {} if key == "mast" else {"pool_strides": POOLING_ABLATIONS[key]}
        costs[key] = ("mast", label, cost_of(inputs.records, PAPER_MODELS["mast"], config))
    for key, (family, label, cost) in costs.items():
        if cost is None:
            continue
        macs = cost.metric("macs_module_only") / GIGA
        cell = cells.get(key, {}).get("map")
        stated = ast.cells[quoted.columns[0].key] if key == "ast" else inputs.paper.cell("ablations", key, "map")
        if stated is not None:
            yield Variant(family=family, label=label, macs=macs, value=stated, interval=None, measured=False,
                          conditions="quoted from the paper")  # fmt: skip
        if cell is not None and cell.measured is not None:
            yield Variant(family=family, label=label, macs=macs, value=cell.measured, interval=cell.ci, measured=True,
                          conditions=str(cell.conditions))  # fmt: skip


def draw_pooling(inputs: TableInputs) -> Drawn | None:
    """The same variants trained from scratch on real recordings."""
    groups = pooling_groups(inputs.records, "esc50")
    if not groups:
        return None
    from matplotlib import pyplot

    group = groups[0]
    scores = _pooling_scores(group, pooling_labels(inputs.paper))
    figure, axes = pyplot.subplots(figsize=(PAGE_WIDTH, 2.9), layout="constrained")
    plot_variants(axes, [variant for variant, _ in scores])
    first = scores[0][1]
    axes.set_ylabel(f"{first.title} (%)")
    legend_above(figure, mark_handles(dict.fromkeys(run.model for run in sorted(group, key=lambda r: r.model))))
    return finish(
        figure,
        "The paper's pooling variants and AST, trained from scratch on real recordings (ESC-50 layout, "
        f"{len(next(iter(group[0].classes.values())))} classes, {group[0].epochs} epochs). Bars: {first.interval_name} "
        "over test clips, which exclude the spread over training runs.",
        "Scores against MACs: " + "; ".join(f"{variant.label} {score.text}" for variant, score in scores),
    )


def _pooling_scores(group: Sequence[TrainedRun], labels: Mapping[str, str]) -> list[tuple[Variant, Score]]:
    by_variant: dict[str, list[TrainedRun]] = {}
    for run in group:
        by_variant.setdefault(run.config_key if run.family == "mast" else run.family, []).append(run)
    scored = []
    for runs in runs_of_all(by_variant).values():
        score = headline_score(runs)
        label = "AST" if runs[0].family == "ast" else labels[variant_of(runs[0])]
        variant = Variant(
            family=runs[0].family,
            label=label,
            macs=runs[0].metric("macs_module_only") / GIGA,
            value=score.value,
            interval=score.interval,
            measured=True,
            conditions=f"{len(runs)} runs, the first {runs[0].key}",
        )
        scored.append((variant, score))
    return sorted(scored, key=lambda pair: (pair[0].family, -pair[0].value))


def variant_of(run: TrainedRun) -> str:
    """Key of the run's pooling in `POOLING_ABLATIONS`."""
    strides = run.model_config.get("pool_strides", POOLING_ABLATIONS["mast"])
    plainly = tuple(tuple(stride) for stride in strides)
    return next(name for name, known in POOLING_ABLATIONS.items() if known == plainly)


def plot_variants(axes: Axes, variants: Sequence[Variant]) -> Axes:
    """A mark with its label per variant, hollow where it is quoted, against MACs on a logarithmic axis."""
    for variant in variants:
        colour = colour_of(variant.family)
        low, high = variant.interval or (variant.value, variant.value)
        bars = axes.errorbar(
            variant.macs,
            variant.value,
            yerr=[[variant.value - low], [high - variant.value]] if variant.interval else None,
            color=colour,
            marker=marker_of(variant.family),
            markersize=6.5,
            markerfacecolor=colour if variant.measured else "white",
            capsize=2.5,
            linewidth=1.1,
        )
        tip(bars.lines[0], variant.label, f"{variant.value:.1f} %", f"{variant.macs:.3g} G", variant.conditions)
        label_beside(axes, variant.label, (variant.macs, variant.value))
    log_ticks(axes)
    low, high = axes.get_xlim()
    rightmost = max(variants, key=lambda variant: variant.macs)
    axes.set_xlim(low, high * (high / low) ** (LABEL_CHARACTER * len(rightmost.label) * 1.4))
    axes.set_xlabel("MACs per clip (10⁹), module-only")
    axes.margins(y=0.12)
    axes.grid(axis="y")
    return axes
