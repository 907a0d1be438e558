"""The summary: what the records say of the paper's claims. Its numbers come from records or from paper.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from reports.commands import command_of
from reports.coverage import kinds_text
from reports.markdown import bullets, code, escape
from reports.plots.architecture import costs_of
from reports.plots.base import by_model, group_title, groups_of, label_of, runs_text
from reports.tables_text import count_cells
from reproduce.metrics.intervals import wilson_interval
from reproduce.records.pooled import Pooled, pooled
from reproduce.records.runs import SpeedRun, TrainedRun
from reproduce.tables import MEASURED, NOT_RUN, Table, TableInputs, table_specs
from reproduce.tables.base import GIGA, MEGA

RATIO, COST_UNITS = "x", ("G", "M")
STUDIES = {"equal_macs": "Real audio, equal MACs", "pooling": "Real audio, pooling ablations"}
PAPER_TABLES = ("table1", "table2", "table3", "table4", "table5", "table6", "ablations")


def summary_text(inputs: TableInputs) -> str:
    """Findings, each of which names what it rests on; then how the report is to be read."""
    findings = [
        *_cost_findings(inputs),
        *_coverage_findings(inputs),
        *_accuracy_findings(inputs),
        *_study_findings(inputs),
        *_speed_findings(inputs),
    ]
    return "\n".join((_about(inputs), bullets(findings), _how_to_read(inputs)))


def _about(inputs: TableInputs) -> str:
    paper = inputs.paper
    return (
        f"This report sets the numbers of {escape(' and '.join(paper.authors))}, *{escape(paper.title)}* "
        f"({escape(paper.venue)}), beside what this suite measured, and says under which conditions. MAST is their "
        "multiscale audio spectrogram transformer, AST the audio spectrogram transformer that it is compared with.\n"
    )


def _how_to_read(inputs: TableInputs) -> str:
    return (
        "Cells read **paper → measured here**, with ± the standard deviation over seeds and [the 95 % interval] where "
        "there are such; a measured number in bold differs from the paper as printed. (quoted) marks a number of the "
        "paper that is not this suite's to measure. What was not run says so, and the notes under the table name the "
        "command that fills the cell. A measurement at a smaller scale or on other data never stands in a paper cell: "
        f"it has a labelled table of its own. Records behind this report: {escape(kinds_text(inputs.records))}.\n"
    )


def _cost_findings(inputs: TableInputs) -> list[str]:
    costs = costs_of(inputs)
    if costs is None:
        return [f"Costs: **not run**; {code(command_of('costs'))} counts them in seconds."]
    ast, mast = costs["ast"].metrics, costs["mast"].metrics
    stated = inputs.paper.fact("macs_times_less")

    def times(name: str) -> float:
        return number(ast[name]) / number(mast[name])

    macs = (
        f"**MACs:** by the paper's own counting MAST needs {number(mast['macs_module_only']) / GIGA:.1f} G where AST "
        f"needs {number(ast['macs_module_only']) / GIGA:.1f} G, **{times('macs_module_only'):.2f} times less**; with "
        f"the products inside attention, which that counting misses, **{times('macs_full'):.2f} times less**. The "
        f"paper states {stated.value}{escape(stated.unit)} ({escape(stated.where)})."
    )
    share = 100 * number(mast["parameters"]) / number(ast["parameters"])
    by_paper = 100 * number(mast["parameters_paper"]) / number(ast["parameters_paper"])
    parameters = (
        f"**Parameters:** {number(mast['parameters']) / MEGA:.2f} M against {number(ast['parameters']) / MEGA:.2f} M, "
        f"{share:.1f} %; {by_paper:.1f} % by the paper's count, which adds AST's unused ImageNet heads. The paper "
        f"states {inputs.paper.fact('params_percent_of_ast').value} %."
    )
    return [macs, parameters]


def _coverage_findings(inputs: TableInputs) -> list[str]:
    specs = table_specs()
    tables = {name: specs[name].build(inputs) for name in PAPER_TABLES if name in specs}
    costs, scores = Counter[str](), Counter[str]()
    for name, table in tables.items():
        for cell in (cell for row in table.rows for cell in row.cells.values()):
            if cell.paper is not None and cell.unit != RATIO and cell.status in (MEASURED, NOT_RUN):
                (costs if name == "table1" or cell.unit in COST_UNITS else scores)[cell.status] += 1
    where = [_heading(table) for table in tables.values() if count_cells([table], NOT_RUN)]
    missing = f" (not run: {escape('; '.join(where))})" if where else ""
    return [
        f"**Coverage:** of the paper's own numbers, {costs[MEASURED]} of {costs.total()} shapes and costs and "
        f"{scores[MEASURED]} of {scores.total()} accuracies, mAP and clustering scores are measured{missing}."
    ]


def _heading(table: Table) -> str:
    return table.title.partition(":")[0]


def _accuracy_findings(inputs: TableInputs) -> list[str]:
    """Every pair of models trained alike on real recordings: their scores, and whether these can be told apart."""
    found = []
    for group in groups_of(inputs.records):
        runs = by_model(group)
        # Runs by a named recipe have tables of their own; these are the comparisons of `esc50` and `train`.
        compared = not group[0].recipe_name and not group[0].standin
        if len(runs) == 2 and compared and "top1" in group[0].metrics:
            found.append(_pair_text(group, runs))
    return found or [f"**Real audio:** not run; {code(command_of('esc50'))} trains both models on the same recordings."]


def _study_findings(inputs: TableInputs) -> list[str]:
    """Every row's top-1 of the two studies on real audio, where they were run."""
    found = []
    for name, title in STUDIES.items():
        table = table_specs()[name].build(inputs)
        for part in (table, *table.blocks):
            scored = [(row.label, row.cells["top1"]) for row in part.rows if "top1" in row.cells]
            told = "; ".join(
                f"{escape(label_of(label))} {cell.measured:.1f} %"
                + (" " + escape(f"[{cell.ci[0]:.1f}, {cell.ci[1]:.1f}]") if cell.ci else "")
                for label, cell in scored
                if cell.measured is not None
            )
            if told:
                found.append(f"**{title}** ({escape(part.title)}): {told}.")
    return found


def _speed_findings(inputs: TableInputs) -> list[str]:
    """AST's time over MAST's at the paper's input, of the largest batch on every machine where it was measured."""
    chosen: dict[tuple[str, str, str], TrainedRun] = {}
    for record in sorted(inputs.records.of_kind(SpeedRun), key=lambda r: (r.experiment.get("batch", 0), r.created)):
        told, ratio = record.experiment, record.metrics["time_ratio"]
        second = told["contender"] != told["contenders"][0]
        if second and told["bench"] == "models" and record.scale == "paper" and not told["compile"] and ratio:
            chosen[record.environment.device, told["mode"], told["precision"]] = record
    found = []
    for (device, mode, precision), record in chosen.items():
        ratio = record.metric("time_ratio")
        times = ratio if record.candidate.startswith("ast") else 1 / ratio
        found.append(
            f"**Speed** ({escape(device)}, {record.environment.torch_threads} threads, {escape(mode)}, batch "
            f"{record.batch}, {escape(precision)}): AST takes **{times:.2f} times** MAST's time."
        )
    return found


def _pair_text(group: Sequence[TrainedRun], runs: Mapping[str, Sequence[TrainedRun]]) -> str:
    scores = {model: pooled(records) for model, records in runs.items()}
    told = " and ".join(f"{label_of(model)} {_with_interval(score)}" for model, score in scores.items())
    clips = next(iter(scores.values())).clips
    counts = runs_text(next(iter(runs.values())))
    return (
        f"**Real audio** ({escape(group_title(group))}; {counts}): top-1 {escape(told)} on the same {clips:,} test "
        f"clips (95 % intervals); the paired test stands in the section on real audio. {_cause_text(runs, scores)}"
    )


def _cause_text(runs: Mapping[str, Sequence[TrainedRun]], scores: Mapping[str, Pooled]) -> str:
    """What the training curves say of the order: whether who is ahead on test clips fits the training clips better."""
    if any(r.metrics.get("train_loss") is None for records in runs.values() for r in records):
        return ""
    losses = {model: fmean(r.metric("train_loss") for r in records) for model, records in runs.items()}
    ahead, behind = sorted(scores, key=lambda model: scores[model].value, reverse=True)
    told = f"(loss of the last epoch {losses[ahead]:.2f} against {losses[behind]:.2f})"
    if losses[ahead] < losses[behind]:
        return (
            f"{escape(label_of(ahead))}, which is ahead, also fits its training clips better {told}: it learns faster "
            "in as many epochs, which is not yet to generalise better."
        )
    who = escape(label_of(ahead))
    return f"{who} is ahead although it fits its training clips less well {told}: it generalises better."


def _with_interval(score: Pooled) -> str:
    if score.correct is None:
        return f"{score.value:.1f} %"
    low, high = wilson_interval(score.correct, score.clips)
    return f"{score.value:.1f} % [{low:.1f}, {high:.1f}]"
