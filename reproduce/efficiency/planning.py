"""Plan what a target takes before it starts: steps, memory and device-hours of every run. Nothing is trained.

    plan_experiments(experiments, {("vggsound", ""): located_counts(index, experiment)}, records)

Hours are a closed form with an assumed utilisation, or follow a measured training speed where a record has one.
Importing this needs torch: the models are built on the meta device, without weights, to count their sizes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from models import SpectrogramClassifier, create_model
from models.complexity import measure_complexity
from reproduce.efficiency.clip_counts import paper_counts
from reproduce.efficiency.plan import (
    GPU_GIB,
    GPUS,
    TRAINING_PASSES,
    UTILISATION,
    WHOLE_BATCH,
    ClipCounts,
    Memory,
    MemoryEstimate,
    Plan,
    PlannedRun,
    TrainingLength,
)
from reproduce.efficiency.training_memory import training_memory
from reproduce.efficiency.training_speed import training_speed
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.families import family
from reproduce.experiments.paper_recipes import AST, paper_recipes
from reproduce.experiments.paper_studies import study_name
from reproduce.experiments.recipe import Recipe
from reproduce.experiments.schedule import optimizer_steps, summed_learning_rate
from reproduce.records.records import Records
from reproduce.records.runs import canonical_config
from reproduce.records.selection import PAPER_CLASSES

GIB, HOUR, TERA = 2**30, 3600.0, 1e12
FLOPS_PER_MAC = 2


def plan_experiments(
    experiments: Sequence[Experiment],
    clips: Mapping[tuple[str, str], ClipCounts],
    records: Records,
    memory: Memory = WHOLE_BATCH,
) -> Plan:
    """Plan every run; experiments that differ in the seed alone are one run.

    Args:
        experiments: of a target.
        clips: (dataset, variant) -> counts of data at hand; the paper's counts replace those that are absent.
        records: all; a training speed of the same model on the same input gives measured hours.
        memory: how a batch is put on a device; by default whole, or in micro-batches where it does not fit.

    Raises:
        InputError: neither `clips` nor the paper counts the clips of a data set.
    """
    groups: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        groups.setdefault(json.dumps(replace(experiment, seed=0).to_dict(), sort_keys=True), []).append(experiment)
    runs = []
    for first, *others in groups.values():
        study = (first.dataset, first.variant)
        counts = clips[study] if study in clips else paper_counts(*study)
        runs.append(_with_measured_hours(_plan_run(first, 1 + len(others), counts, memory), first, records))
    recipes = [experiment.recipe for experiment in experiments]
    return Plan(
        runs=tuple(runs),
        memory=memory,
        scores_epochs=any(recipe.report_best for recipe in recipes),
        crops_tests=any(recipe.test_crops > 1 for recipe in recipes),
    )


def run_label(experiment: Experiment) -> str:
    """Name model, pooling variant, data and, unless it is MAST's, the recipe: "mast_base none, audioset balanced"."""
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
def _built(model: str, config: str, input_size: tuple[int, int]) -> SpectrogramClassifier:
    """Build on the meta device, with AudioSet's classes: a head is under 1 % of either model."""
    with torch.device("meta"):
        return create_model(model, num_classes=PAPER_CLASSES, input_size=input_size, **json.loads(config))


def _model_of(experiment: Experiment) -> SpectrogramClassifier:
    config = json.dumps(canonical_config(experiment.model, experiment.model_config), sort_keys=True)
    return _built(experiment.model, config, (experiment.front_end.mels, experiment.front_end.frames))


def training_flops(macs_full: int, clips: int, epochs: int) -> float:
    """Count the FLOPs of forward and backward passes of every clip and epoch."""
    return float(TRAINING_PASSES * FLOPS_PER_MAC * macs_full * clips * epochs)


def passes_over_test(experiment: Experiment) -> int:
    """Count how often the test clips are predicted.

    Once, or after every epoch where the best one is reported; and once more with averaged weights.
    """
    recipe = experiment.recipe
    return (recipe.epochs if recipe.report_best else 1) + (1 if recipe.average_from else 0)


def _plan_run(experiment: Experiment, seeds: int, counts: ClipCounts, memory: Memory) -> PlannedRun:
    recipe, macs_full = experiment.recipe, measure_complexity(_model_of(experiment)).macs_full
    tested = counts.test * passes_over_test(experiment)
    flops = training_flops(macs_full, counts.train, recipe.epochs) + FLOPS_PER_MAC * macs_full * tested
    share = UTILISATION.get(family(experiment.model), UTILISATION["ast"])  # MBT's products are a ViT's too
    asked = estimate_memory(experiment, memory)
    return PlannedRun(
        label=run_label(experiment),
        study=study_name(experiment.dataset, experiment.variant),
        recipe_name=experiment.recipe_name,
        model=experiment.model,
        input_size=(experiment.front_end.mels, experiment.front_end.frames),
        seeds=seeds,
        clips=counts,
        epochs=recipe.epochs,
        batch=recipe.batch_size,
        length=_length(recipe, counts),
        ast_length=_ast_length(experiment, counts),
        ast_published=experiment.dataset == "audioset",
        asked=asked,
        fitting=fit_memory(experiment, asked),
        utilisation=share,
        gpu_hours={gpu.name: flops / (gpu.peak_tflops * TERA * share) / HOUR for gpu in GPUS},
    )


def _length(recipe: Recipe, counts: ClipCounts) -> TrainingLength:
    steps = optimizer_steps(recipe, counts.train)
    return TrainingLength(steps, None if recipe.optimizer == "sgd" else summed_learning_rate(recipe, steps))


def _ast_length(experiment: Experiment, counts: ClipCounts) -> TrainingLength | None:
    """Of the recipe of AST's authors on the same data; None at a demo's scale, and for MBT's SGD."""
    study = (experiment.dataset, experiment.variant)
    official = [r.recipe for r in paper_recipes() if r.name == AST and (r.dataset, r.variant) == study]
    comparable = official and experiment.scale == "paper" and experiment.recipe.optimizer != "sgd"
    return _length(official[0], counts) if comparable else None


def _with_measured_hours(run: PlannedRun, experiment: Experiment, records: Records) -> PlannedRun:
    speed = training_speed(records, experiment)
    if speed is None:
        return run
    trained = run.clips.train * run.epochs / speed.training
    predicted = run.clips.test * passes_over_test(experiment) / speed.prediction
    return replace(run, speed=speed, measured_hours=(trained + predicted) / HOUR)


# --- memory ---


@dataclass(frozen=True, kw_only=True)
class TrainingDevice:
    """What bounds the memory of a training step.

    Args:
        gib: memory of one device in GiB.
        devices: that share each batch.
        mixed: autocast to bfloat16; otherwise float32 throughout.
    """

    gib: float = GPU_GIB
    devices: int = 1
    mixed: bool = True


PLANNED_DEVICE = TrainingDevice()


def estimate_memory(experiment: Experiment, memory: Memory, device: TrainingDevice = PLANNED_DEVICE) -> MemoryEstimate:
    """Estimate the peak memory of a training step on one device."""
    clips = memory.clips(-(-experiment.recipe.batch_size // device.devices))
    peak = training_memory(_model_of(experiment), clips, mixed=device.mixed, checkpointing=memory.checkpointing).peak
    return MemoryEstimate(memory, clips, peak / GIB)


def fit_memory(
    experiment: Experiment, asked: MemoryEstimate, device: TrainingDevice = PLANNED_DEVICE
) -> MemoryEstimate:
    """Find the largest micro-batch that fits the device; the recipe's batch stays as it is.

    The micro-batch is halved until it fits: first without recomputation, which costs time, then with it.

    Returns:
        `asked` if it fits; otherwise the first that fits, or one clip with recomputation if nothing does.
    """
    estimate = asked
    for checkpointing in dict.fromkeys((asked.memory.checkpointing, True)):
        for clips in _halves(asked.clips):
            if estimate.gib <= device.gib:
                return estimate
            estimate = estimate_memory(experiment, Memory(clips, checkpointing), device)
    return estimate


def _halves(clips: int) -> Iterator[int]:
    """64, 32, 16, ... 1; rounded up."""
    yield clips
    while clips > 1:
        clips = -(-clips // 2)
        yield clips
