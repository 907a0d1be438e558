"""What a plan holds: clips, steps, memory and hours of every run, as numbers. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TRAINING_PASSES = 3  # MACs of a training step in forward passes: the backward pass multiplies twice as much
SHORT_TRAINING = 1 / 3  # of the learning rate that AST's own recipe adds up to


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet.

    Args:
        name: as in the plan's columns.
        peak_tflops: dense bfloat16 peak in TFLOP/s.
    """

    name: str
    peak_tflops: float


GPUS = (Gpu("A100", 312.0), Gpu("H100", 989.0))
GPU_GIB = 80.0  # memory of either
# Share of the peak that training is assumed to reach. The large products of a ViT-B do well; MAST's many small ones,
# pooling convolutions and position biases do less well. A record of a measured speed replaces these assumptions.
UTILISATION = {"ast": 0.30, "mast": 0.10}


@dataclass(frozen=True)
class ClipCounts:
    """Clips of one data set.

    Args:
        train: training clips.
        test: test clips.
        source: who counted them, for the table.
    """

    train: int
    test: int
    source: str


@dataclass(frozen=True)
class Memory:
    """How a batch is put on a device.

    Args:
        micro_batch: clips at a time, whose gradients are added up; 0 takes the whole batch at once.
        checkpointing: recompute activations in the backward pass.
    """

    micro_batch: int = 0
    checkpointing: bool = False

    def clips(self, batch: int) -> int:
        """Clips that are on the device at a time, of a batch of `batch`."""
        return min(self.micro_batch or batch, batch)


WHOLE_BATCH = Memory()


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak memory of a training step.

    Args:
        memory: how the batch is put on the device.
        clips: on the device at a time.
        gib: peak in GiB.
    """

    memory: Memory
    clips: int
    gib: float


@dataclass(frozen=True)
class TrainingSpeed:
    """Measured speed of one device.

    Args:
        training: clips per second.
        prediction: clips per second.
        source: model, device and record, for the table.
    """

    training: float
    prediction: float
    source: str


@dataclass(frozen=True)
class TrainingLength:
    """How long a recipe trains.

    Args:
        steps: optimizer steps.
        rate_sum: learning rate summed over all steps; None for SGD, whose rate is another unit than Adam's.
    """

    steps: int
    rate_sum: float | None


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run; its seeds differ in nothing else. Hours are those of one seed on one device.

    Args:
        label: model, pooling variant, data and recipe.
        study: data set and variant.
        recipe_name: see `Experiment.recipe_name`.
        model: registered name.
        input_size: (mels, frames).
        seeds: number of seeds.
        clips: of the data set.
        epochs: of the recipe.
        batch: clips per step, over all devices.
        length: of this recipe.
        ast_length: of the recipe of AST's authors on the same clips; None at a demo's scale and for MBT.
        ast_published: whether AST's authors published it for this data set; otherwise it is their nearest.
        asked: memory with the micro-batch that was asked for, by default the whole batch.
        fitting: memory with the largest micro-batch that fits a GPU, equal to `asked` where that fits.
        utilisation: assumed share of the GPUs' peak.
        gpu_hours: estimate by name of the GPU.
        speed: measured; None without a record of the same model and input.
        measured_hours: by `speed`.
    """

    label: str
    study: str
    recipe_name: str
    model: str
    input_size: tuple[int, int]
    seeds: int
    clips: ClipCounts
    epochs: int
    batch: int
    length: TrainingLength
    ast_length: TrainingLength | None
    ast_published: bool
    asked: MemoryEstimate
    fitting: MemoryEstimate
    utilisation: float
    gpu_hours: Mapping[str, float]
    speed: TrainingSpeed | None = None
    measured_hours: float | None = None

    @property
    def memory(self) -> MemoryEstimate:
        """The memory that a run uses: a micro-batch that was asked for is used, whether or not it fits."""
        return self.fitting if self.asked.memory == WHOLE_BATCH else self.asked

    @property
    def trains_little(self) -> bool:
        """Whether the summed learning rate is less than a third of that of the recipe of AST's authors."""
        own, theirs = self.length.rate_sum, self.ast_length.rate_sum if self.ast_length else None
        return own is not None and theirs is not None and own < SHORT_TRAINING * theirs


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a target's runs take.

    Args:
        runs: in the order of the experiments.
        memory: how a batch was asked to be put on a device.
        scores_epochs: whether test clips are predicted after every epoch, for the best one.
        crops_tests: whether long test clips are predicted in several crops.
    """

    runs: tuple[PlannedRun, ...]
    memory: Memory
    scores_epochs: bool
    crops_tests: bool

    @property
    def seeds(self) -> int:
        """Trainings in all."""
        return sum(run.seeds for run in self.runs)

    def total_gpu_hours(self, gpu: str) -> float:
        """Hours of all runs and seeds, one after another."""
        return sum(run.gpu_hours[gpu] * run.seeds for run in self.runs)

    def total_measured_hours(self) -> float | None:
        """Hours of all runs and seeds by measured speeds; None if one run has no measured speed."""
        hours = [run.measured_hours * run.seeds for run in self.runs if run.measured_hours is not None]
        return sum(hours) if len(hours) == len(self.runs) else None
