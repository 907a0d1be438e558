"""What a target will cost before it starts: steps, memory and device-hours of every run. Nothing is trained.

    plan_experiments(experiments, {("vggsound", ""): located_counts(index, experiment)}, records)

Hours are a closed form with an assumed utilisation, or follow a measured training speed where a record has one.
Importing this needs torch, for the sizes of the models; they are built on the meta device, without weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from models import SpectrogramTransformer, create_model
from models.complexity import measure_complexity
from reproduce.datasets import ClipIndex
from reproduce.efficiency.training_memory import training_memory
from reproduce.errors import InputError
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.families import family
from reproduce.experiments.paper_studies import study_name
from reproduce.paper import load_paper
from reproduce.records.records import Records, latest
from reproduce.records.runs import TrainedRun, canonical_config
from reproduce.records.selection import PAPER_CLASSES, canonical_config
from reproduce.tables.base import MEASURED, TRAINING_PASSES, Cell, Column, Row, Table, measured

GIB, HOUR, TERA = 2**30, 3600.0, 1e12
FLOPS_PER_MAC = 2


@dataclass(frozen=True)
class Device:
    """A GPU by its data sheet: dense bfloat16 peak in TFLOP/s."""

    name: str
    peak_tflops: float


DEVICES = (Device("A100", 312.0), Device("H100", 989.0))
DEVICE_GIB = 80  # memory of either
# Share of the peak that training is assumed to reach. ViT-B with large products does well; MAST's many small ones,
# pooling convolutions and position biases less so. Assumptions: a record of a measured speed replaces them.
UTILISATION = {"ast": 0.30, "mast": 0.10}
# EPIC-KITCHENS-100's published lists: the paper gives only 90,000 segments over all splits.
EPIC_TRAIN, EPIC_VALIDATION = 67_217, 9_668
PAPER_COUNTS = {
    ("kinetics_sounds", "ks32"): ("clips_kinetics_sounds_train", "clips_kinetics_sounds_test"),
    ("vggsound", ""): ("clips_vggsound_train", "clips_vggsound_test"),
    ("audioset", "balanced"): ("clips_audioset_balanced", "clips_audioset_test"),
    ("audioset", "full"): ("clips_audioset_full", "clips_audioset_test"),
}


COLUMNS = (
    Column("runs", "runs", "", 0),
    Column("clips", "training clips", "", 0),
    Column("epochs", "epochs", "", 0),
    Column("steps", "steps", "", 0),
    Column("batch", "batch", "", 0),
    Column("memory", "GiB", "", 1),
    *(Column(device.name.lower(), f"{device.name} h", "", 1) for device in DEVICES),
    Column("measured", "measured h", "", 1),
)


HOURS = tuple(column for column in COLUMNS if column.key in {"measured", *(d.name.lower() for d in DEVICES)})


@dataclass(frozen=True)
class ClipCounts:
    """Clips of one data set.

    Args:
        train, test: how many. source: whose count it is, as the table tells it.
    """

    train: int
    test: int
    source: str


@dataclass(frozen=True)
class Memory:
    """How a batch is put on a device: `micro_batch` clips at a time (0: all), blocks recomputed or not."""

    micro_batch: int = 0
    checkpointing: bool = False

    def clips(self, batch: int) -> int:
        return min(self.micro_batch or batch, batch)


WHOLE_BATCH = Memory()


def located_counts(index: ClipIndex, experiment: Experiment) -> ClipCounts:
    """Of data that were found: the clips that lie on disk, whether or not each decodes."""
    train, test = (len(index.positions_of(*splits)) for splits in (experiment.train_splits, experiment.test_splits))
    return ClipCounts(train, test, "the data as found")


def paper_counts(dataset: str, variant: str) -> ClipCounts:
    """Of data that were not located: the clips that the paper kept.

    Raises:
        InputError: a data set that the paper does not use; say where it lies.
    """
    if dataset == "epic_kitchens":
        source = "EPIC-KITCHENS-100's published lists (data not located; the paper gives no train count)"
        return ClipCounts(EPIC_TRAIN, EPIC_VALIDATION, source)
    if (dataset, variant) not in PAPER_COUNTS:
        raise InputError(f"plan: the paper counts no clips of {study_name(dataset, variant)}: add --data {dataset}=DIR")
    train, test = (int(load_paper().fact(key).value) for key in PAPER_COUNTS[dataset, variant])
    return ClipCounts(train, test, "the paper's kept clips (data not located)")


def plan_experiments(
    experiments: Sequence[Experiment],
    clips: Mapping[tuple[str, str], ClipCounts],
    records: Records,
    memory: Memory = WHOLE_BATCH,
) -> Table:
    """One row for all seeds of a run; hours are a run's, and the last row adds every run up.

    Args:
        clips: (dataset, protocol) -> counts, of the data that were located; the paper's stand in for the others.
        records: all; a training speed of the same model on the same input gives the column "hours as measured".
        memory: how a batch is put on a device.
    """
    groups: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        groups.setdefault(json.dumps(replace(experiment, seed=0).to_dict(), sort_keys=True), []).append(experiment)
    rows, notes = [], []
    for number, group in enumerate(groups.values()):
        first = group[0]
        study = (first.dataset, first.variant)
        counts = clips[study] if study in clips else paper_counts(*study)
        rows.append(_row(f"run{number}", first, len(group), counts, records, memory))
        name = study_name(*study)
        notes.append(f"{name}: {counts.train:,} training and {counts.test:,} test clips, {counts.source}.")
    if len(experiments) > 1:
        rows.append(_total(rows))
    speeds = dict.fromkeys(
        row.cells["measured"].conditions for row in rows if "measured" in row.cells and row.key != "total"
    )
    return Table(
        "plan",
        f"Plan: {len(experiments)} run{'' if len(experiments) == 1 else 's'}",
        COLUMNS,
        tuple(rows),
        notes=(
            *dict.fromkeys(notes),
            *_rules(experiments, memory),
            *(f"Measured: {told}." for told in speeds),
            *_warnings(groups.values(), memory),
        ),
    )


def run_label(experiment: Experiment) -> str:
    """ "mast_base none_at_21, audioset balanced": model, pooling variant, data, and the recipe where it is another."""
    config = canonical_config(experiment.model, experiment.model_config)
    strides = {json.dumps(value): name for name, value in POOLING_ABLATIONS.items()}
    variant = strides.get(json.dumps(config.pop("pool_strides", None)), "")
    parts = [" ".join([experiment.model, *([variant] if variant else []), *(f"{k}={v}" for k, v in config.items())])]
    parts.append(study_name(experiment.dataset, experiment.variant))
    if experiment.recipe_name not in ("", "mast"):
        parts.append(f'"{experiment.recipe_name}"')
    return ", ".join(parts)


# --- one run ---


@cache
def _built(model: str, config: str, input_size: tuple[int, int]) -> SpectrogramTransformer:
    """On the meta device, with AudioSet's classes: a head is under 1 % of either model."""
    with torch.device("meta"):
        return create_model(model, num_classes=PAPER_CLASSES, input_size=input_size, **json.loads(config))


def _model_of(experiment: Experiment) -> SpectrogramTransformer:
    config = json.dumps(canonical_config(experiment.model, experiment.model_config), sort_keys=True)
    return _built(experiment.model, config, (experiment.front_end.mels, experiment.front_end.frames))


def _peak_gib(experiment: Experiment, memory: Memory) -> float:
    clips = memory.clips(experiment.recipe.batch_size)
    return training_memory(_model_of(experiment), clips, checkpointing=memory.checkpointing).peak / GIB


def training_flops(macs_full: int, clips: int, epochs: int) -> float:
    """Forward and backward passes of every clip and epoch."""
    return float(TRAINING_PASSES * FLOPS_PER_MAC * macs_full * clips * epochs)


def passes_over_test(experiment: Experiment) -> int:
    """How often the test clips are predicted: after every epoch where the best is reported, else once; once more for
    averaged weights."""
    recipe = experiment.recipe
    return (recipe.epochs if recipe.report_best else 1) + (1 if recipe.average_from else 0)


def _row(key: str, experiment: Experiment, runs: int, counts: ClipCounts, records: Records, memory: Memory) -> Row:
    recipe, macs_full = experiment.recipe, measure_complexity(_model_of(experiment)).macs_full
    steps = recipe.epochs * math.ceil(counts.train / recipe.batch_size)
    tested = counts.test * passes_over_test(experiment)
    flops = training_flops(macs_full, counts.train, recipe.epochs) + FLOPS_PER_MAC * macs_full * tested
    mels, frames = experiment.front_end.mels, experiment.front_end.frames
    shape = (
        f"{experiment.model}, 1 x {mels} x {frames}, bfloat16, {memory.clips(recipe.batch_size)} clips on one device"
    )
    share = UTILISATION[family(experiment.model)]
    cells = {
        "runs": measured(runs, "", "seeds"),
        "clips": measured(counts.train, "", counts.source),
        "epochs": measured(recipe.epochs, "", "recipe"),
        "steps": measured(steps, "", "epochs x clips / batch, rounded up"),
        "batch": measured(recipe.batch_size, "", "clips a step, over all devices"),
        "memory": measured(_peak_gib(experiment, memory), "", f"estimate, {shape}"),
    }
    for device in DEVICES:
        hours = flops / (device.peak_tflops * TERA * share) / HOUR
        where = f"estimate, {device.name} at {share:.0%} of {device.peak_tflops:g} TFLOP/s"
        cells[device.name.lower()] = measured(hours, "", where)
    speed = training_speed(records, experiment)
    if speed is not None:
        trained, predicted = counts.train * recipe.epochs / speed.training, tested / speed.prediction
        cells["measured"] = measured((trained + predicted) / HOUR, "", speed.told)
    return Row(key, run_label(experiment), cells)


def _total(rows: Sequence[Row]) -> Row:
    """Hours of every run; a column that one row lacks has no sum."""
    cells: dict[str, Cell] = {"runs": measured(sum(_number(row, "runs") for row in rows), "", "all")}
    for column in HOURS:
        if all(column.key in row.cells for row in rows):
            total = sum(_number(row, column.key) * _number(row, "runs") for row in rows)
            cells[column.key] = Cell(None, total, "", MEASURED, "runs x hours, added up")
    return Row("total", "all runs, one after another", cells)


def _number(row: Row, key: str) -> float:
    value = row.cells[key].measured
    assert value is not None  # this module makes no empty cells
    return value


def _warnings(groups: Iterable[Sequence[Experiment]], memory: Memory) -> list[str]:
    """What no 80 GiB device holds."""
    warnings = []
    for first, *_ in groups:
        needed = _peak_gib(first, memory)
        if needed <= DEVICE_GIB:
            continue
        told = f"{memory.clips(first.recipe.batch_size)} clips on one device"
        checkpointed = _peak_gib(first, replace(memory, checkpointing=True))
        remedy = "" if memory.checkpointing else f", {checkpointed:.0f} GiB with --grad-checkpointing: use that or"
        warnings.append(
            f"Warning: {run_label(first)} needs {needed:.0f} GiB for {told}{remedy or ': use'} a smaller --micro-batch "
            f"on a device of {DEVICE_GIB} GiB."
        )
    return warnings


def _rules(experiments: Iterable[Experiment], memory: Memory) -> list[str]:
    """How the figures came about, and what would change them."""
    recipes = [experiment.recipe for experiment in experiments]
    shares = ", ".join(f"{name.upper()} {share:.0%}" for name, share in UTILISATION.items())
    peaks = ", ".join(f"{d.name} {d.peak_tflops:g} TFLOP/s" for d in DEVICES)
    held = f"{memory.micro_batch} clips" if memory.micro_batch else "a whole batch"
    recomputed = ", blocks recomputed" if memory.checkpointing else ""
    rules = [
        f"GiB: peak with {held} on one device{recomputed}: 18 bytes a parameter (weights, gradients, Adam, bfloat16 "
        "copies) and activations from block shapes. Several devices, or pieces of a batch, divide the activations.",
        "Hours, of one run on one device: 3 passes x 2 FLOPs x full MACs x clips x epochs, and those over test clips, "
        f"at an ASSUMED share of the bfloat16 peak ({shares} of {peaks}). Decoding is not in it.",
    ]
    if any(recipe.report_best for recipe in recipes):
        rules.append("The test clips are predicted after every epoch, as the best epoch is reported beside the last.")
    if any(recipe.test_crops > 1 for recipe in recipes):
        rules.append("Further crops of long test clips are not counted.")
    return rules


# --- measured speeds ---


@dataclass(frozen=True)
class Speed:
    """Clips a second of one device, in training and in prediction; `told` says on what."""

    training: float
    prediction: float
    told: str


def training_speed(records: Records, experiment: Experiment) -> Speed | None:
    """From the newest training run of this very model on this input size; None where there is none.

    The speed of several processes is shared among them, so that hours are those of one device.
    """
    newest = latest(
        run
        for run in records.of_kind(TrainedRun)
        if _same_work(run, experiment) and run.metrics.get("train_clips_per_s", 0) > 0
    )
    if newest is None:
        return None
    devices = newest.environment.processes
    training, prediction = (newest.metrics.get(f"{what}_clips_per_s") for what in ("train", "predict"))
    assert training  # asked above
    per_device = float(training) / devices
    environment = newest.environment
    told = (
        f"{experiment.model} trained at {per_device:.1f} clips/s a device on {environment.device}, "
        f"{environment.precision} (record {newest.key}, {newest.created[:10]})"
    )
    # A prediction is at least as fast as training.
    return Speed(per_device, float(prediction) / devices if prediction else per_device, told)


def _same_work(run: TrainedRun, experiment: Experiment) -> bool:
    ours, theirs = experiment.front_end, run.front_end
    config = json.dumps(canonical_config(experiment.model, experiment.model_config), sort_keys=True)
    return (run.model, run.config_key, theirs.mels, theirs.frames) == (
        experiment.model,
        config,
        ours.mels,
        ours.frames,
    )
