"""The table of `plan`: what the runs of a target take. A pure function of the plan's numbers. No torch here."""

from __future__ import annotations

from collections.abc import Iterator

from reproduce.efficiency.plan import GPU_GIB, GPUS, UTILISATION, WHOLE_BATCH, MemoryEstimate, Plan, PlannedRun
from reproduce.tables.base import Column, Row, Table, measured

COLUMNS = (
    Column("runs", "runs", "", 0),
    Column("clips", "training clips", "", 0),
    Column("epochs", "epochs", "", 0),
    Column("steps", "steps", "", 0),
    Column("lr_sum", "summed lr", "", 3),
    Column("ast_steps", "AST's steps", "", 0),
    Column("ast_lr_sum", "AST's summed lr", "", 3),
    Column("batch", "batch", "", 0),
    Column("memory", "GiB", "", 1),
    *(Column(gpu.name.lower(), f"{gpu.name} h", "", 1) for gpu in GPUS),
    Column("measured", "measured h", "", 1),
)


def plan_table(plan: Plan) -> Table:
    """Build one row per run, whose hours are those of one seed, and a last row that adds up all runs and seeds."""
    rows = [_row(f"run{number}", run) for number, run in enumerate(plan.runs)]
    if plan.seeds > 1:
        rows.append(_total_row(plan))
    return Table(
        "plan",
        f"Plan: {plan.seeds} run{'' if plan.seeds == 1 else 's'}",
        COLUMNS,
        tuple(rows),
        notes=tuple(dict.fromkeys([*_clip_notes(plan), *_rules(plan), *_speed_notes(plan), *_warnings(plan)])),
    )


def _row(key: str, run: PlannedRun) -> Row:
    mels, frames = run.input_size
    recomputed = ", blocks recomputed" if run.memory.memory.checkpointing else ""
    shape = f"{run.model}, 1 x {mels} x {frames}, bfloat16, {run.memory.clips} clips on one device{recomputed}"
    cells = {
        "runs": measured(run.seeds, "", "seeds"),
        "clips": measured(run.clips.train, "", run.clips.source),
        "epochs": measured(run.epochs, "", "recipe"),
        "steps": measured(run.length.steps, "", "epochs x clips / batch, rounded up"),
        "batch": measured(run.batch, "", "clips per step, over all devices"),
        "memory": measured(run.memory.gib, "", f"estimate, {shape}"),
    }
    if run.length.rate_sum is not None:
        cells["lr_sum"] = measured(run.length.rate_sum, "", "learning rate summed over all steps")
    if run.ast_length is not None and run.ast_length.rate_sum is not None:
        source = f"{_ast_recipe(run)} on these clips"
        cells["ast_steps"] = measured(run.ast_length.steps, "", source)
        cells["ast_lr_sum"] = measured(run.ast_length.rate_sum, "", source)
    for gpu in GPUS:
        where = f"estimate, {gpu.name} at {run.utilisation:.0%} of {gpu.peak_tflops:g} TFLOP/s"
        cells[gpu.name.lower()] = measured(run.gpu_hours[gpu.name], "", where)
    if run.speed is not None and run.measured_hours is not None:
        cells["measured"] = measured(run.measured_hours, "", run.speed.source)
    return Row(key, run.label, cells)


def _total_row(plan: Plan) -> Row:
    hours = {gpu.name.lower(): plan.total_gpu_hours(gpu.name) for gpu in GPUS}
    if (total := plan.total_measured_hours()) is not None:
        hours["measured"] = total
    cells = {"runs": measured(plan.seeds, "", "all")}
    cells |= {key: measured(value, "", "runs x hours, added up") for key, value in hours.items()}
    return Row("total", "all runs, one after another", cells)


# --- notes ---


def _clip_notes(plan: Plan) -> Iterator[str]:
    for run in plan.runs:
        clips = run.clips
        yield f"{run.study}: {clips.train:,} training and {clips.test:,} test clips, {clips.source}."


def _rules(plan: Plan) -> Iterator[str]:
    """How the figures are computed, and what changes them."""
    shares = ", ".join(f"{name.upper()} {share:.0%}" for name, share in UTILISATION.items())
    peaks = ", ".join(f"{gpu.name} {gpu.peak_tflops:g} TFLOP/s" for gpu in GPUS)
    batch = f"{plan.memory.micro_batch} clips" if plan.memory.micro_batch else "a whole batch"
    recomputed = ", blocks recomputed" if plan.memory.checkpointing else ""
    yield (
        f"GiB: peak with {batch} on one device{recomputed}: 18 bytes per parameter (weights, gradients, Adam, bfloat16 "
        "copies) and activations from block shapes. Several devices, or micro-batches, divide the activations."
    )
    yield (
        "Hours, of one run on one device: 3 passes x 2 FLOPs x full MACs x clips x epochs, plus predicting the test "
        f"clips, at an ASSUMED share of the bfloat16 peak ({shares} of {peaks}). Decoding is not included."
    )
    if any(run.ast_length for run in plan.runs):
        yield (
            "Summed lr: learning rate summed over all steps (of Adam and AdamW; SGD's has another unit); AST's: the "
            "recipe of its authors on the same clips, or the nearest to it that they published."
        )
    if plan.scores_epochs:
        yield "The test clips are predicted after every epoch, as the best epoch is reported beside the last."
    if plan.crops_tests:
        yield "Further crops of long test clips are not counted."


def _speed_notes(plan: Plan) -> Iterator[str]:
    for run in plan.runs:
        if run.speed is not None:
            yield f"Measured: {run.speed.source}."


def _warnings(plan: Plan) -> Iterator[str]:
    for run in plan.runs:
        if run.asked.gib > GPU_GIB:
            yield _memory_warning(run)
        if run.trains_little and run.ast_length is not None:
            expect = "expect undertrained models" if run.ast_published else "the models may be undertrained"
            yield (
                f'Warning: {run.study}, recipe "{run.recipe_name}": the summed learning rate is '
                f"{run.length.rate_sum:.3f} over {run.length.steps:,} steps, less than a third of the "
                f"{run.ast_length.rate_sum:.3f} over {run.ast_length.steps:,} steps of {_ast_recipe(run)}: {expect}. "
                "A smaller batch takes more steps (--set batch_size=N)."
            )


def _ast_recipe(run: PlannedRun) -> str:
    return "the recipe of AST's authors" if run.ast_published else "the nearest recipe of AST's authors"


def _memory_warning(run: PlannedRun) -> str:
    """What does not fit a GPU, and what fits."""
    clips, gib = run.asked.clips, run.asked.gib
    needs = f"{run.label}: {clips} clips on one device need {gib:.0f} GiB, more than {GPU_GIB:.0f} GiB"
    if run.fitting.gib > GPU_GIB:
        return f"Warning: {needs}, and {_described(run.fitting)} still {run.fitting.gib:.0f} GiB: use a larger device."
    fits = f"{_described(run.fitting)} ({run.fitting.gib:.0f} GiB)"
    if run.asked.memory == WHOLE_BATCH:
        return f"Memory: {needs}; planned with {fits}. The batch of {run.batch} clips per step stays."
    return f"Warning: {needs}: use {fits}."


def _described(estimate: MemoryEstimate) -> str:
    recomputed = " --grad-checkpointing" if estimate.memory.checkpointing else ""
    return f"--micro-batch {estimate.clips}{recomputed}"
