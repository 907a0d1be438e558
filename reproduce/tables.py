"""Tables as pure functions of the paper and the records. Rendering is a second step (`render.py`); no torch here.

`@register_table` makes the registry that the command line and the report read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reproduce import paper as paper_module
from reproduce.experiments import POOLING_ABLATIONS
from reproduce.intervals import mcnemar, wilson_interval
from reproduce.metrics import top_k_correct
from reproduce.paper import Paper
from reproduce.records import RunRecord
from reproduce.selection import common_runs, comparisons, cost_of, cross_validated, paper_run, searches

MEASURED, NOT_RUN, PAPER_ONLY = "measured", "not run", "paper only"
GIGA, MEGA = 1e9, 1e6
PAPER_MODELS = {"ast": "ast_base", "mast": "mast_base"}


@dataclass(frozen=True)
class Column:
    """One quantity; `decimals` is how many the rendered cell shows (JSON and CSV keep them all)."""

    key: str
    title: str
    unit: str = ""
    decimals: int = 1


@dataclass(frozen=True)
class Cell:
    """The paper's number beside ours.

    Args:
        paper: as printed, None where the paper has none.
        measured: ours, None unless status is "measured".
        unit: of both.
        status: "measured", "not run" or "paper only" (a quoted result that is not ours to measure).
        conditions: what ours was measured under, or why it was not run.
        n: clips behind it. ci: 95 % interval.
    """

    paper: float | None
    measured: float | None
    unit: str
    status: str
    conditions: str = ""
    n: int | None = None
    ci: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    """Cells by column key; a column without an entry is blank."""

    key: str
    label: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Table:
    """What a target prints. `blocks` are labelled tables under it, such as demo-scale or itemised ones."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    blocks: tuple[Table, ...] = ()


@dataclass(frozen=True)
class CostRequest:
    """A cost that the table wants measured live before it is built."""

    model: str
    model_config: Mapping[str, Any] = field(default_factory=dict)
    with_libraries: bool = False


@dataclass(frozen=True)
class TableInputs:
    """All that a table may depend on."""

    paper: Paper
    records: Sequence[RunRecord]
    records_dir: Path


@dataclass(frozen=True)
class TableSpec:
    """One target: its name, the help line, what to measure first, and how to build it."""

    name: str
    help: str
    build: Callable[[TableInputs], Table]
    costs: tuple[CostRequest, ...] = ()


_TABLES: dict[str, TableSpec] = {}


def register_table(
    name: str, help: str, costs: tuple[CostRequest, ...] = ()
) -> Callable[[Callable[[TableInputs], Table]], Callable[[TableInputs], Table]]:
    """Register a builder as target `name`. A repeated name is an error."""

    def register(build: Callable[[TableInputs], Table]) -> Callable[[TableInputs], Table]:
        if name in _TABLES:
            raise ValueError(f"table {name!r} is registered twice")
        _TABLES[name] = TableSpec(name, help, build, costs)
        return build

    return register


def table_specs() -> dict[str, TableSpec]:
    """Targets by name, in the order of registration."""
    return dict(_TABLES)


def measured(value: float, unit: str, conditions: str, paper: float | None = None) -> Cell:
    return Cell(paper, value, unit, MEASURED, conditions)


# --- costs -------------------------------------------------------------------------------------------------------

BOTH_COSTS = (CostRequest("ast_base"), CostRequest("mast_base"))
COST_COLUMNS = (
    Column("macs", "MACs, module-only", "G", 1),
    Column("macs_full", "MACs, full", "G", 1),
    Column("params", "#Params, paper's count", "M", 1),
    Column("params_exact", "#Params, exact", "M", 6),
)
COUNTING_NOTES = (
    "MACs of one clip, batch 1, 1 x 128 x 1024 (10.24 s), front end not included; 1 MAC = one multiply-add.",
    "module-only is the paper's rule: what ptflops 0.6.9 sees in Linear, Conv, LayerNorm and pooling modules. "
    "It misses the products of attention (Q.K and A.V) and of relative positions, which full includes.",
    "The paper's parameter count of AST includes DeiT's two unused 1000-way heads (1,538,000), as AST's code does.",
)


def _cost_conditions(record: RunRecord) -> str:
    mels, frames = record.experiment["input_size"]
    return (
        f"{record.experiment['model']}, 1 x {mels} x {frames}, {record.experiment['num_classes']} classes, closed form"
    )


def _cost_cells(record: RunRecord | None, paper_macs: float | None, paper_params: float | None) -> dict[str, Cell]:
    """Cells of COST_COLUMNS."""
    if record is None:
        missing = "not measured in this process"
        return {
            "macs": Cell(paper_macs, None, "G", NOT_RUN, missing),
            "params": Cell(paper_params, None, "M", NOT_RUN, missing),
        }
    where, metrics = _cost_conditions(record), record.metrics
    return {
        "macs": measured(_number(metrics["macs_module_only"]) / GIGA, "G", f"{where}, module-only rule", paper_macs),
        "macs_full": measured(_number(metrics["macs_full"]) / GIGA, "G", f"{where}, full rule"),
        "params": measured(_number(metrics["parameters_paper"]) / MEGA, "M", f"{where}, paper's count", paper_params),
        "params_exact": measured(_number(metrics["parameters"]) / MEGA, "M", f"{where}, exact"),
    }


def _number(value: float | int | None) -> float:
    if value is None:
        raise ValueError("this metric was not a number when it was recorded")
    return float(value)


def _ratio_row(label: str, first: Mapping[str, Cell], second: Mapping[str, Cell], columns: Sequence[Column]) -> Row:
    """first / second of every measured column, beside the paper's own ratio."""
    cells = {}
    for column in columns:
        a, b = first.get(column.key), second.get(column.key)
        if a and b and a.measured is not None and b.measured is not None:
            quoted = a.paper / b.paper if a.paper is not None and b.paper is not None else None
            cells[column.key] = measured(a.measured / b.measured, "x", "ratio of the two rows", quoted)
    return Row("ratio", label, cells)


@register_table("table1", "architecture of both models, block by block", BOTH_COSTS)
def table1(inputs: TableInputs) -> Table:
    """Table 1: tokens, grid and width that leave every block, asserted against the models as built."""
    costs = {model: cost_of(inputs.records, preset) for model, preset in PAPER_MODELS.items()}
    quantities = (("width", "width"), ("freq", "freq rows"), ("time", "time columns"), ("tokens", "tokens"))
    columns = tuple(
        Column(f"{model}_{key}", f"{model.upper()} {title}", "", 0)
        for model in PAPER_MODELS
        for key, title in quantities
    )
    rows = []
    for line in inputs.paper.architecture.rows:
        cells: dict[str, Cell] = {}
        for model in PAPER_MODELS:
            layer = line.layer(model)
            if layer is not None:
                cells.update(_layer_cells(model, layer, line.blocks, costs[model]))
        rows.append(Row(line.key, line.label, cells))
    return Table(
        "table1",
        inputs.paper.architecture.title,
        columns,
        tuple(rows),
        notes=(
            "Patches only, as in the paper: AST carries two more tokens (class, distillation) through its 12 blocks.",
            "Where a row covers several blocks, the measured value is that of all of them.",
        ),
    )


def _layer_cells(
    model: str, layer: paper_module.Layer, blocks: Sequence[int], cost: RunRecord | None
) -> dict[str, Cell]:
    quoted = {"width": layer.width, "freq": layer.freq, "time": layer.time, "tokens": layer.tokens}
    present = {key: value for key, value in quoted.items() if value is not None}
    if cost is None:
        return {f"{model}_{k}": Cell(v, None, "", NOT_RUN, "not measured in this process") for k, v in present.items()}
    built = _built_layer(layer.kind, blocks, cost)
    where = _cost_conditions(cost)
    return {f"{model}_{key}": measured(built[key], "", where, value) for key, value in present.items()}


def _built_layer(kind: str, blocks: Sequence[int], cost: RunRecord) -> dict[str, float]:
    """Width and grid of a line of Table 1 in the model as built; ValueError if its blocks differ among themselves."""
    mels, frames = cost.experiment["input_size"]
    if kind == "input":
        return {"width": 1, "freq": mels, "time": frames}
    if kind == "head":
        return {"width": cost.experiment["num_classes"]}
    names = ["patch embedding"] if kind == "patch_embed" else [f"block {number}" for number in blocks]
    shapes = {tuple(shape[1:5]) for shape in cost.details["shapes"] if shape[0] in names}
    if len(shapes) != 1:
        raise ValueError(f"blocks {list(blocks)} are one row of Table 1 but leave {sorted(shapes)}")
    tokens, freq, time, width = shapes.pop()
    return {"width": width, "freq": freq, "time": time, "tokens": tokens}


@register_table("table5", "AudioSet: costs measured live, accuracies from paper-scale records", BOTH_COSTS)
def table5(inputs: TableInputs) -> Table:
    """Table 5: mAP on balanced and full AudioSet, MACs and parameters."""
    quoted = inputs.paper.table("table5")
    accuracy_columns = tuple(Column(c.key, c.title, c.unit, c.decimals) for c in quoted.columns if c.unit == "%")
    columns = (*accuracy_columns, *COST_COLUMNS)
    rows = []
    for line in quoted.rows:
        cells: dict[str, Cell] = {}
        for column in accuracy_columns:
            cells.update(_paper_accuracy_cell(inputs, line, column, dataset="audioset"))
        if line.measured_as:
            record = cost_of(inputs.records, PAPER_MODELS[line.measured_as])
            cells.update(_cost_cells(record, line.cells["macs"], line.cells["params"]))
        else:
            for key, unit in (("macs", "G"), ("params", "M")):
                if line.cells[key] is not None:
                    cells[key] = Cell(line.cells[key], None, unit, PAPER_ONLY, f"quoted from {line.quoted_from}")
        rows.append(Row(line.key, line.label, cells))
    by_key = {row.key: row.cells for row in rows}
    rows.append(_ratio_row("AST : MAST", by_key["ast_our_as"], by_key["mast"], COST_COLUMNS))
    return Table("table5", quoted.title, columns, tuple(rows), notes=COUNTING_NOTES)


def _paper_accuracy_cell(inputs: TableInputs, line: paper_module.Row, column: Column, dataset: str) -> dict[str, Cell]:
    """The cell of one accuracy column, by key; empty where neither the paper nor we have a number."""
    quoted = line.cells[column.key]
    if not line.measured_as:
        cell = Cell(quoted, None, column.unit, PAPER_ONLY, f"quoted from {line.quoted_from}")
        return {column.key: cell} if quoted is not None else {}
    model = PAPER_MODELS[line.measured_as]
    record = paper_run(inputs.records, model, dataset, protocol=column.key)
    if record is None:
        why = f"not run: no paper-scale record of {model} on {dataset} ({column.key}) under {inputs.records_dir}"
        return {column.key: Cell(quoted, None, column.unit, NOT_RUN, why)}
    cell = Cell(quoted, _number(record.metrics["map"]), column.unit, MEASURED, _run_conditions(record))
    return {column.key: cell}


def _run_conditions(record: RunRecord) -> str:
    experiment, data, environment = record.experiment, record.dataset, record.environment
    front_end = experiment["front_end"]
    return (
        f"{experiment['model']}, {front_end['mels']} x {front_end['frames']}, from {experiment['weights']}, "
        f"{experiment['recipe']['epochs']} epochs, seed {record.seed}, "
        f"{data['test_kept']} of {data['test_listed']} test clips, {environment['device']}, "
        f"{environment['precision']}, {record.created[:10]}"
    )


ABLATION_COSTS = (
    CostRequest("ast_base"),
    *(CostRequest("mast_base", {"pool_strides": strides}) for strides in POOLING_ABLATIONS.values()),
)


@register_table(
    "ablations", "MAST's pooling variants: costs measured live, mAP from paper-scale records", ABLATION_COSTS
)
def ablations(inputs: TableInputs) -> Table:
    """The five pooling variants of sec. 4 on balanced AudioSet, with what each costs."""
    quoted = inputs.paper.table("ablations")
    accuracy = quoted.column("map")
    columns = (
        Column(accuracy.key, "mAP, balanced AudioSet", accuracy.unit, accuracy.decimals),
        Column("last_tokens", "tokens, last stage", "", 0),
        Column("macs", "MACs, module-only", "G", 1),
        Column("macs_ptflops_0_7", "MACs, ptflops 0.7 rule", "G", 1),
        Column("macs_full", "MACs, full", "G", 1),
        Column("params_exact", "#Params, exact", "M", 3),
    )
    ast = cost_of(inputs.records, "ast_base")
    rows, warnings = [], []
    for line in quoted.rows:
        config = {"pool_strides": POOLING_ABLATIONS[line.key]}
        cells = _ablation_accuracy(inputs, line, accuracy.unit, config)
        cost = cost_of(inputs.records, "mast_base", config)
        if cost is not None:
            cells |= _ablation_cost_cells(cost)
            times = _cost_ratio(cost, ast) if ast is not None else 0.0
            if times > 1:
                warnings.append(
                    f'Warning: "{line.label}" costs {times:.2f} times AST\'s MACs (module-only); '
                    "train it with activation checkpointing."
                )
        rows.append(Row(line.key, line.label, cells))
    if ast is not None:
        rows.append(Row("ast", "AST, for comparison", _ablation_cost_cells(ast)))
    notes = (
        "Widths double at blocks 2, 5 and 21 even where the pooling is removed; key/value strides follow FAIR's rule.",
        "The ptflops 0.7 rule adds a Linear's bias at every position to the module-only rule.",
    )
    return Table("ablations", quoted.title, columns, tuple(rows), notes=(*notes, *warnings))


def _cost_ratio(first: RunRecord, second: RunRecord) -> float:
    """Module-only MACs of one model over another's."""
    return _number(first.metrics["macs_module_only"]) / _number(second.metrics["macs_module_only"])


def _ablation_accuracy(
    inputs: TableInputs, line: paper_module.Row, unit: str, config: Mapping[str, Any]
) -> dict[str, Cell]:
    record = paper_run(inputs.records, "mast_base", "audioset", protocol="balanced", model_config=config)
    if record is not None:
        return {"map": Cell(line.cells["map"], _number(record.metrics["map"]), unit, MEASURED, _run_conditions(record))}
    why = f"not run: no paper-scale record of this variant on audioset (balanced) under {inputs.records_dir}"
    return {"map": Cell(line.cells["map"], None, unit, NOT_RUN, why)}


def _ablation_cost_cells(record: RunRecord) -> dict[str, Cell]:
    where, metrics = _cost_conditions(record), record.metrics
    cells = {
        key: measured(_number(metrics[name]) / GIGA, "G", where)
        for key, name in (
            ("macs", "macs_module_only"),
            ("macs_ptflops_0_7", "macs_ptflops_0_7"),
            ("macs_full", "macs_full"),
        )
    }
    cells["params_exact"] = measured(_number(metrics["parameters"]) / MEGA, "M", where)
    cells["last_tokens"] = measured(record.details["shapes"][-1][1], "", where)
    return cells


COUNTED_COSTS = tuple(CostRequest(preset, with_libraries=True) for preset in PAPER_MODELS.values())


@register_table(
    "costs", "parameters and MACs itemised per kind and block, beside three libraries' counts", COUNTED_COSTS
)
def costs(inputs: TableInputs) -> Table:
    """Where the MACs are, and what each counting library sees of them."""
    records = {model: cost_of(inputs.records, preset) for model, preset in PAPER_MODELS.items()}
    columns = (*(Column(model, model.upper(), "G", 3) for model in PAPER_MODELS), Column("ratio", "AST : MAST", "x", 2))
    rules = {
        "module-only (the paper's)": "macs_module_only",
        "module-only, ptflops 0.7": "macs_ptflops_0_7",
        "full": "macs_full",
    }
    totals = {
        rule: {model: _number(r.metrics[key]) / GIGA for model, r in records.items() if r}
        for rule, key in rules.items()
    }
    kinds, blocks, libraries = _itemise(records, 1), _itemise(records, 0), _library_counts(records)
    return Table(
        "costs",
        "MACs of one clip at 1 x 128 x 1024, by rule",
        columns,
        _cost_rows(totals, records),
        notes=COUNTING_NOTES,
        blocks=(
            Table("costs by kind", "The same by kind of operation", columns, _cost_rows(kinds, records)),
            Table("costs by block", "The same by block (full rule)", columns, _cost_rows(blocks, records)),
            Table(
                "costs by library",
                "What each library counts, attention unfused and fused",
                columns,
                _cost_rows(libraries, records),
                notes=("Fused attention (sdpa) hides its products from every library: ratios then follow the tool.",),
            ),
        ),
    )


def _itemise(records: Mapping[str, RunRecord | None], field_of_item: int) -> dict[str, dict[str, float]]:
    """GMACs of the full rule by block (0) or kind (1), then by model."""
    totals: dict[str, dict[str, float]] = {}
    for model, record in records.items():
        for item in record.details["items"] if record else ():
            if item[1] == "linear bias":  # belongs to the ptflops 0.7 rule alone
                continue
            row = totals.setdefault(item[field_of_item], {})
            row[model] = row.get(model, 0.0) + item[2] / GIGA
    # AST's head must come after MAST's last block.
    return {name: totals[name] for name in sorted(totals, key=lambda name: name == "head")}


def _library_counts(records: Mapping[str, RunRecord | None]) -> dict[str, dict[str, float]]:
    counts: dict[str, dict[str, float]] = {}
    for model, record in records.items():
        for name, macs in (record.details.get("libraries", {}) if record else {}).items():
            counts.setdefault(name, {})[model] = macs / GIGA
    return counts


def _cost_rows(values: Mapping[str, Mapping[str, float]], records: Mapping[str, RunRecord | None]) -> tuple[Row, ...]:
    rows = []
    for name, by_model in values.items():
        cells = {m: measured(v, "G", _cost_conditions(r)) for m, v in by_model.items() if (r := records[m])}
        if by_model.get("ast") and by_model.get("mast"):
            cells["ratio"] = measured(by_model["ast"] / by_model["mast"], "x", "ratio of the two columns")
        rows.append(Row(name, name, cells))
    return tuple(rows)


# --- trained comparisons -----------------------------------------------------------------------------------------

COMPARISON_COLUMNS = (
    Column("top1", "Top-1", "%", 1),
    Column("top5", "Top-5", "%", 1),
    Column("params", "#Params", "M", 2),
    Column("macs", "MACs, module-only", "G", 2),
    Column("macs_full", "MACs, full", "G", 2),
    Column("train_clips_per_s", "Training", "clips/s", 1),
    Column("predict_clips_per_s", "Inference", "clips/s", 1),
)


@register_table("esc50", "cross-validate AST and MAST from scratch on a folder in ESC-50's layout")
def esc50(inputs: TableInputs) -> Table:
    """Both models on the same folds, one block a protocol. The paper has no ESC-50 table: nothing here is quoted."""
    groups = comparisons(inputs.records, "esc50")
    blocks = tuple(_comparison(inputs, group, f"esc50 {number}") for number, group in enumerate(groups, start=1))
    if len(blocks) == 1:
        return _renamed(blocks[0], "esc50")
    notes = () if blocks else (f"not run: no record on esc50 under {inputs.records_dir}",)
    return Table("esc50", "ESC-50 layout: AST and MAST from scratch", (), (), notes=notes, blocks=blocks)


@register_table("tune", "search the learning rate for both models alike, on validation folds")
def tune(inputs: TableInputs) -> Table:
    """Validation accuracy by learning rate and model; the test fold is neither trained on nor looked at."""
    runs = searches(inputs.records, "esc50")
    models = list(dict.fromkeys(run.experiment["model"] for run in sorted(runs, key=lambda r: r.experiment["model"])))
    rows: dict[float, dict[str, Cell]] = {}
    for run in runs:
        correct, clips = int(_number(run.metrics["correct"])), int(_number(run.metrics["clips"]))
        where = f"{_run_conditions(run)}, validation fold {run.experiment['test_splits'][0]}"
        cell = Cell(None, _number(run.metrics["top1"]), "%", MEASURED, where, clips, wilson_interval(correct, clips))
        rows.setdefault(run.experiment["recipe"]["lr"], {})[run.experiment["model"]] = cell
    return Table(
        "tune",
        "Validation top-1 by learning rate",
        tuple(Column(model, model, "%", 1) for model in models),
        tuple(Row(f"lr={rate:g}", f"lr {rate:g}", cells) for rate, cells in rows.items()),
        notes=() if runs else (f"not run: no search on esc50 under {inputs.records_dir}",),
    )


def _renamed(table: Table, name: str) -> Table:
    return Table(name, table.title, table.columns, table.rows, table.notes, table.blocks)


def _comparison(inputs: TableInputs, group: Sequence[RunRecord], name: str) -> Table:
    first = group[0]
    by_model: dict[str, list[RunRecord]] = {}
    for record in sorted(group, key=lambda r: r.experiment["model"]):
        by_model.setdefault(record.experiment["model"], []).append(record)
    rows = [_comparison_row(model, records) for model, records in by_model.items()]
    if len(rows) == 2:
        rows.append(
            _ratio_row(f"{rows[0].label} : {rows[1].label}", rows[0].cells, rows[1].cells, COMPARISON_COLUMNS[2:])
        )
    classes = len(next(iter(first.dataset["classes"].values())))
    folds = sorted({r.experiment["test_splits"][0] for r in group})
    everything = first.experiment["train_splits"] + first.experiment["test_splits"]
    recipe, front_end = first.experiment["recipe"], first.experiment["front_end"]
    notes = [
        f"Test folds run: {', '.join(folds)} of {', '.join(sorted(everything))}; chance is {100 / classes:.1f} %. "
        "Intervals are 95 % Wilson intervals over test clips.",
        f"Both models: {recipe['epochs']} epochs, batch {recipe['batch_size']}, AdamW lr {recipe['lr']:g} with "
        f"{recipe['warmup_steps']} warm-up steps and a cosine, mixup {recipe['mixup']:g}, SpecAugment "
        f"{recipe['freq_mask']}/{recipe['time_mask']}, input 1 x {front_end['mels']} x {front_end['frames']} at a "
        f"{front_end['frame_shift_ms']:g} ms hop, from {first.experiment['weights']}; "
        "weights of the last epoch, nothing selected on the test fold.",
    ]
    notes += _pairing_notes(inputs, by_model)
    notes += _problem_notes(group)
    title = f"{first.scale} scale: {classes} classes in ESC-50's layout, {len(folds)}-fold test"
    return Table(name, title, COMPARISON_COLUMNS, tuple(rows), notes=tuple(notes))


def _comparison_row(model: str, records: Sequence[RunRecord]) -> Row:
    result = cross_validated(records)
    environment, first = records[0].environment, records[0]
    coverage = f"{sum(r.dataset['test_kept'] for r in records)} of {sum(r.dataset['test_listed'] for r in records)}"
    where = (
        f"{model}, folds {','.join(result.folds)}, seeds {','.join(map(str, result.seeds))}, {coverage} test clips, "
        f"{environment['device']}, {environment['precision']}, {first.created[:10]}"
    )
    sd = f", sd over folds {result.fold_sd:.1f}" if len(result.folds) > 1 else ""
    ci = wilson_interval(result.correct, result.clips)
    metrics = first.metrics
    speeds = {
        key: sum(_number(r.metrics[key]) for r in records) / len(records)
        for key in ("train_clips_per_s", "predict_clips_per_s")
    }
    cells = {
        "top1": Cell(None, result.top1, "%", MEASURED, where + sd, n=result.clips, ci=ci),
        "top5": Cell(None, result.top5, "%", MEASURED, where, n=result.clips),
        "params": measured(_number(metrics["parameters"]) / MEGA, "M", f"{model}, exact"),
        "macs": measured(_number(metrics["macs_module_only"]) / GIGA, "G", f"{model}, module-only rule"),
        "macs_full": measured(_number(metrics["macs_full"]) / GIGA, "G", f"{model}, full rule"),
        "train_clips_per_s": measured(speeds["train_clips_per_s"], "clips/s", f"{where}, augmentation included"),
        "predict_clips_per_s": measured(speeds["predict_clips_per_s"], "clips/s", f"{where}, model alone"),
    }
    return Row(model, model, cells)


def _pairing_notes(inputs: TableInputs, by_model: Mapping[str, Sequence[RunRecord]]) -> list[str]:
    """The paired test of two models on the clips that both predicted."""
    if len(by_model) != 2:
        return []
    (name_a, runs_a), (name_b, runs_b) = by_model.items()
    shared_a, shared_b = common_runs(runs_a, runs_b)
    only_a = only_b = clips = 0
    for a, b in zip(shared_a, shared_b, strict=True):
        right_a, right_b = _right_clips(inputs, a), _right_clips(inputs, b)
        if right_a is None or right_b is None:
            return [f"Paired test not run: the stored predictions of {a.key} or {b.key} are absent."]
        both = sorted(right_a.keys() & right_b.keys())
        clips += len(both)
        only_a += sum(right_a[c] and not right_b[c] for c in both)
        only_b += sum(right_b[c] and not right_a[c] for c in both)
    if not clips:
        return []
    return [
        f"Paired on {clips} predictions of the same clips: only {name_a} is right on {only_a}, "
        f"only {name_b} on {only_b}; exact McNemar p = {mcnemar(only_a, only_b):.3g}."
    ]


def _right_clips(inputs: TableInputs, record: RunRecord) -> dict[str, bool] | None:
    """Clip id -> whether the stored prediction is right; None where the file is absent."""
    path = inputs.records_dir / (record.predictions or "")
    if record.predictions is None or not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        right = top_k_correct(stored["logits_label"], stored["targets_label"].argmax(axis=1))
        return dict(zip(map(str, stored["clip_ids"]), map(bool, right), strict=True))


def _problem_notes(group: Sequence[RunRecord]) -> list[str]:
    """Clips that could not be used, or were used with a warning, over all runs of the group."""
    problems = {tuple(problem) for record in group for problem in record.dataset["problems"]}
    unused = sorted(f"{clip} ({reason})" for clip, reason, fatal in problems if fatal)
    warned = sorted(f"{clip} ({reason})" for clip, reason, fatal in problems if not fatal)
    notes = []
    for what, clips in (("Not used", unused), ("Used with a warning", warned)):
        if clips:
            more = f" and {len(clips) - 10} more, see the record" if len(clips) > 10 else ""
            notes.append(f"{what}: {len(clips)} clips: {', '.join(clips[:10])}{more}.")
    return notes
