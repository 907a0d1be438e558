"""`plan`: steps, hours and memory before anything is trained, checked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_records import make_record

from reproduce.datasets.index import ClipIndex, Labels
from reproduce.datasets.strings import Strings
from reproduce.efficiency.clip_counts import located_counts, paper_counts
from reproduce.efficiency.plan import WHOLE_BATCH, ClipCounts, Memory, Plan, PlannedRun
from reproduce.efficiency.planning import TrainingDevice, estimate_memory, fit_memory, plan_experiments, run_label
from reproduce.errors import InputError
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.overrides import override
from reproduce.experiments.paper_recipes import paper_recipe, paper_recipes, to_experiment
from reproduce.paper import load_paper
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.tables.plan import plan_table

paper = load_paper()
BALANCED, VGGSOUND = ("audioset", "balanced"), ("vggsound", "")


def planned(*experiments: Experiment, clips: Any = None, records: Any = (), memory: Memory = WHOLE_BATCH) -> Plan:
    return plan_experiments(experiments, clips or {}, Records.of(records), memory)


def experiment_of(model: str, dataset: str, variant: str = "", recipe: str = "mast", **config: Any) -> Experiment:
    return to_experiment(paper_recipe(recipe, model, dataset, variant), 0, config)


def mast_on(dataset: str, variant: str = "", **config: Any) -> Experiment:
    return experiment_of("mast", dataset, variant, **config)


def planned_run(experiment: Experiment, train: int, test: int, records: Any = ()) -> PlannedRun:
    counts = {(experiment.dataset, experiment.variant): ClipCounts(train, test, "a test")}
    return planned(experiment, clips=counts, records=records).runs[0]


# --- clips, steps and hours ---


@pytest.mark.parametrize(
    ("model", "a100", "h100"),
    [
        # Full MACs per clip (`python -m reproduce costs`): AST 130.562 G, MAST 34.3746 G. 50 epochs of 1,000 clips at
        # three passes and 51 predictions of 300 clips, 2 FLOPs per MAC: 330,600 FLOPs per MAC of a clip. AST at 30 % of
        # 312 and 989 TFLOP/s takes 461.2 s and 145.5 s, MAST at 10 % 364.2 s and 114.9 s.
        ("ast", 0.128098, 0.040412),
        ("mast", 0.101177, 0.031919),
    ],
)
def test_hours_follow_from_clips_epochs_and_macs(model: str, a100: float, h100: float) -> None:
    run = planned_run(experiment_of(model, *BALANCED), 1000, 300)
    assert run.gpu_hours == {"A100": pytest.approx(a100, rel=1e-4), "H100": pytest.approx(h100, rel=1e-4)}


def test_steps_are_those_of_whole_and_partial_batches() -> None:
    run = planned_run(mast_on(*BALANCED), 1000, 300)
    assert (run.clips.train, run.epochs, run.batch) == (1000, 50, 12)
    assert run.length.steps == 50 * 84  # 83.3 batches of 12


def test_without_a_best_epoch_test_clips_are_predicted_once() -> None:
    experiment = mast_on(*BALANCED)
    once = replace(experiment, recipe=replace(experiment.recipe, report_best=False, average_from=0))
    hours = [planned_run(e, 1000, 300).gpu_hours["A100"] for e in (experiment, once)]
    assert hours[0] / hours[1] == pytest.approx(165_300 / 150_300)  # 3 x 50,000 and 51 or 1 x 300 forward passes


def test_counts_of_data_at_hand_replace_the_papers() -> None:
    counts = {VGGSOUND: ClipCounts(10, 5, "the data as found")}
    plan = planned(mast_on("vggsound"), mast_on("kinetics_sounds"), clips=counts)
    assert [run.clips.train for run in plan.runs] == [10, 22_914]
    notes = " ".join(plan_table(plan).notes)
    assert "vggsound: 10 training and 5 test clips, the data as found" in notes
    assert "kinetics_sounds ks32: 22,914 training and 1,585 test clips, the paper's kept clips" in notes


@pytest.mark.parametrize("recipe", paper_recipes(), ids=lambda r: f"{r.name} {r.model} {r.dataset} {r.variant}")
def test_every_recipe_of_the_paper_can_be_planned_without_data(recipe: Any) -> None:
    run = planned(to_experiment(recipe, 0)).runs[0]
    assert run.length.steps > 0 and run.memory.gib > 0


def test_epic_kitchens_lists_add_up_to_what_the_paper_rounds() -> None:
    counts, unlabelled_test = paper_counts("epic_kitchens", ""), 13_092
    listed = paper.fact("clips_listed_epic_kitchens_100").value
    assert counts.train + counts.test + unlabelled_test == pytest.approx(listed, rel=1e-3)


def test_epic_kitchens_validation_count_is_that_of_the_real_list(annotations: Path) -> None:
    lines = (annotations / "epic_kitchens_100/EPIC_100_validation.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) - 1 == paper_counts("epic_kitchens", "").test


def test_a_data_set_that_the_paper_lacks_has_no_counts() -> None:
    with pytest.raises(InputError, match="no study of esc50: choose one of kinetics_sounds ks32"):
        paper_counts("esc50", "")


def test_clips_at_hand_are_counted_by_the_experiments_splits() -> None:
    splits = Strings.of(["train"] * 4 + ["test"] * 2 + ["other"])
    ids = Strings.of([str(i) for i in range(7)])
    none = np.full(7, np.nan)
    index = ClipIndex(
        "vggsound", {"label": ("a",)}, False, Path("x"), ids, ids, splits, none, none,
        {"label": Labels.from_rows([[0]] * 7)},
    )  # fmt: skip
    counts = located_counts(index, mast_on("vggsound"))
    assert (counts.train, counts.test) == (4, 2)


# --- how long a run trains ---


@pytest.mark.parametrize(
    ("recipe", "steps", "rate_sum"),
    [
        # Warm-up and half a cosine add up to lr (steps + 2) / 2: 1e-5 x 74,302 / 2.
        ("mast", 74_300, 0.37151),
        # 1,486 steps per epoch at 5e-5. The warm-up's 1,000 steps count 475; ten epochs at the full rate, then five
        # each at a half, a quarter and an eighth: (14,860 - 1,000 + 475 + 7,430 x 0.875) x 5e-5.
        ("ast", 37_150, 1.0418125),
    ],
)
def test_the_summed_learning_rate_of_balanced_audioset(recipe: str, steps: int, rate_sum: float) -> None:
    run = planned_run(experiment_of("ast", *BALANCED, recipe), 17_823, 0)
    assert (run.length.steps, run.length.rate_sum) == (steps, pytest.approx(rate_sum))
    assert run.ast_length is not None
    assert (run.ast_length.steps, run.ast_length.rate_sum) == (37_150, pytest.approx(1.0418125))


@pytest.mark.parametrize(("batch", "warned"), [(64, True), (13, True), (12, False)])
def test_less_than_a_third_of_asts_summed_rate_is_warned_of(batch: int, warned: bool) -> None:
    """On 17,823 clips: 1e-5 x (steps + 2) / 2 against 0.3473; batches of 13 and 12 give 0.3428 and 0.3715."""
    recipe = override(paper_recipe("mast", "mast", *BALANCED), {"batch_size": batch})
    plan = planned(to_experiment(recipe, 0))
    notes = [note for note in plan_table(plan).notes if "summed learning rate is" in note]
    assert len(notes) == warned
    assert all("audioset balanced" in note and "of the 1.042 over 37,150 steps" in note for note in notes)


def test_elsewhere_a_run_is_compared_with_the_nearest_recipe_of_asts_authors_and_says_so() -> None:
    plan = planned(mast_on("vggsound"))
    (run,) = plan.runs
    assert run.ast_length is not None and not run.ast_published and run.trains_little
    assert any("the nearest recipe of AST's authors: the models may be" in note for note in plan_table(plan).notes)


def test_the_rate_of_mbts_sgd_is_not_added_up() -> None:
    plan = planned(to_experiment(paper_recipe("mbt", "ast_mbt", *BALANCED), 0))
    (run,) = plan.runs
    assert (run.length.rate_sum, run.ast_length, run.trains_little) == (None, None, False)
    assert not {"lr_sum", "ast_steps", "ast_lr_sum"} & set(plan_table(plan).rows[0].cells)


# --- rows ---


def test_seeds_of_a_run_share_a_row_and_the_last_row_adds_up() -> None:
    seeds = [replace(mast_on(*BALANCED), seed=seed) for seed in (0, 1, 2)]
    plan = planned(*seeds, mast_on("vggsound"))
    first, second = plan.runs
    assert (first.seeds, second.seeds, plan.seeds) == (3, 1, 4)
    assert plan.total_gpu_hours("A100") == pytest.approx(3 * first.gpu_hours["A100"] + second.gpu_hours["A100"])
    total = plan_table(plan).rows[-1]
    assert total.cells["runs"].measured == 4
    assert total.cells["a100"].measured == plan.total_gpu_hours("A100")
    assert "memory" not in total.cells  # memories do not add up


def test_a_row_names_model_variant_data_and_recipe() -> None:
    strides = POOLING_ABLATIONS["none_at_21"]
    assert run_label(mast_on(*BALANCED, pool_strides=strides)) == "mast_base none_at_21, audioset balanced"
    assert run_label(mast_on("vggsound")) == "mast_base, vggsound"
    assert run_label(experiment_of("ast", "audioset", "full", "ast")) == 'ast_base, audioset full, "ast"'
    changed = override(paper_recipe("mast", "mast", "vggsound"), {"batch_size": 12})
    assert run_label(to_experiment(changed, 0)) == 'mast_base, vggsound, "mast, batch_size=12"'


# --- measured speeds ---


def speed_record(model: str = "mast_base", processes: int = 1, speed: float = 100.0, **changes: Any) -> RunRecord:
    record = make_record(
        model, experiment={"model_config": {}, "front_end": mast_on("vggsound").front_end.to_dict()}, **changes
    )
    metrics = {**record.metrics, "train_clips_per_s": speed, "predict_clips_per_s": 400.0}
    return replace(record, metrics=metrics, environment={**record.environment, "processes": processes})


def test_a_measured_training_speed_gives_hours_and_is_named() -> None:
    plan = planned(mast_on("vggsound"), clips={VGGSOUND: ClipCounts(3600, 400, "a test")}, records=[speed_record()])
    # 50 epochs of 3,600 clips at 100 clips/s, 51 predictions of 400 clips at 400 clips/s.
    assert plan.runs[0].measured_hours == pytest.approx((1800 + 51) / 3600)
    assert any("100.0 clips/s" in note and "invented CPU" in note for note in plan_table(plan).notes)


def test_the_speed_of_several_processes_is_divided_among_them() -> None:
    run = planned_run(mast_on("vggsound"), 3600, 0, [speed_record(processes=4)])
    assert run.measured_hours == pytest.approx(4 * 1800 / 3600)


@pytest.mark.parametrize(
    "record",
    [
        speed_record("ast_base"),
        speed_record(kind="search"),
        make_record("mast_base"),  # another input
        replace(speed_record(), metrics={"train_clips_per_s": None}),
    ],
)
def test_speeds_of_other_work_are_not_used(record: RunRecord) -> None:
    assert planned(mast_on("vggsound"), records=[record]).runs[0].measured_hours is None


def test_the_newest_speed_counts() -> None:
    old = replace(speed_record(speed=1.0), created="2025-01-01")
    run = planned(mast_on("vggsound"), records=[speed_record(), old]).runs[0]
    assert run.speed is not None and run.speed.training == 100.0


# --- what fits a device ---


def test_only_the_ablation_without_pooling_needs_a_micro_batch() -> None:
    plan = planned(*(mast_on("vggsound", pool_strides=strides) for strides in POOLING_ABLATIONS.values()))
    runs = dict(zip(POOLING_ABLATIONS, plan.runs, strict=True))
    assert {name: run.memory.clips for name, run in runs.items() if run.memory.clips != 64} == {"none": 16}
    none = runs["none"]
    assert none.asked.gib > 160 and none.memory.gib < 80 < none.asked.gib / 2
    assert (none.batch, none.length) == (64, runs["mast"].length)
    notes = [note for note in plan_table(plan).notes if note.startswith("Memory")]
    assert len(notes) == 1 and "mast_base none," in notes[0] and "--micro-batch 16" in notes[0]


def test_a_micro_batch_that_was_asked_for_is_kept_and_warned_of() -> None:
    plan = planned(mast_on("vggsound", pool_strides=POOLING_ABLATIONS["none"]), memory=Memory(micro_batch=32))
    assert plan.runs[0].memory.clips == 32
    notes = [note for note in plan_table(plan).notes if "need" in note and note.startswith("Warning")]
    assert len(notes) == 1 and "use --micro-batch 16" in notes[0]


@pytest.mark.parametrize(
    ("gib", "devices", "mixed", "clips", "checkpointing"),
    [
        (80.0, 1, True, 64, False),  # 24.9 GiB in all
        (80.0, 4, True, 16, False),  # each device's part of the batch
        (15.0, 1, True, 32, False),
        (15.0, 1, False, 16, False),  # activations are wider in float32
        (1.05, 1, True, 2, True),  # one clip without recomputation takes 1.24 GiB
    ],
)
def test_the_largest_micro_batch_that_fits_is_chosen(
    gib: float, devices: int, mixed: bool, clips: int, checkpointing: bool
) -> None:
    device = TrainingDevice(gib=gib, devices=devices, mixed=mixed)
    experiment = mast_on("vggsound")
    fitting = fit_memory(experiment, estimate_memory(experiment, WHOLE_BATCH, device), device)
    assert (fitting.clips, fitting.memory.checkpointing) == (clips, checkpointing)


def test_memory_follows_how_a_batch_is_put_on_a_device() -> None:
    whole, pieces, recomputed = (
        planned(mast_on("vggsound"), memory=memory)
        for memory in (Memory(), Memory(micro_batch=8), Memory(micro_batch=8, checkpointing=True))
    )
    gib = [plan.runs[0].memory.gib for plan in (whole, pieces, recomputed)]
    assert gib[0] > 4 * gib[1] > 4 * gib[2]
    assert "8 clips on one device" in plan_table(pieces).rows[0].cells["memory"].conditions
    assert whole.runs[0].length == pieces.runs[0].length
