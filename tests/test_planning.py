"""`plan`: steps, hours and memory before anything is trained, checked by hand and against real training steps."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_records import make_record

from models import create_model
from models.base import SpectrogramTransformer
from models.complexity import count_parameters, measure_complexity
from reproduce.datasets.index import ClipIndex, Labels
from reproduce.datasets.strings import Strings
from reproduce.efficiency.planning import (
    DEVICES,
    EPIC_TRAIN,
    EPIC_VALIDATION,
    UTILISATION,
    WHOLE_BATCH,
    ClipCounts,
    Memory,
    located_counts,
    paper_counts,
    plan_experiments,
    run_label,
)
from reproduce.efficiency.training_memory import FULL, STATE_BYTES, kept_by_blocks, training_memory
from reproduce.errors import InputError
from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.overrides import override
from reproduce.experiments.paper_recipes import paper_recipe, paper_recipes, to_experiment
from reproduce.paper import load_paper
from reproduce.records.record import RunRecord
from reproduce.tables import Row, Table
from reproduce.tables.render import FORMATS, render

paper = load_paper()
TOLERANCE = 0.1  # of the activations that real steps of small models keep


def planned(*experiments: Experiment, clips: Any = None, records: Any = (), memory: Memory = WHOLE_BATCH) -> Table:
    return plan_experiments(experiments, clips or {}, records, memory)


def value(row: Row, column: str) -> float:
    measured = row.cells[column].measured
    assert measured is not None
    return measured


def mast_on(dataset: str, variant: str = "", seed: int = 0, **config: Any) -> Experiment:
    return to_experiment(paper_recipe("mast", "mast", dataset, variant), seed, config)


# --- clips, steps and hours ---


def test_steps_and_hours_follow_from_clips_epochs_and_macs() -> None:
    experiment = mast_on("audioset", "balanced")
    row = planned(experiment, clips={("audioset", "balanced"): ClipCounts(1000, 300, "a test")}).rows[0]
    assert value(row, "clips") == 1000
    assert value(row, "epochs") == experiment.recipe.epochs == 50
    assert value(row, "steps") == 50 * math.ceil(1000 / 64)
    with torch.device("meta"):
        macs = measure_complexity(create_model("mast_base")).macs_full
    # The test clips are predicted after each of 50 epochs, and once with averaged weights.
    flops = 3 * 2 * macs * 1000 * 50 + 2 * macs * 300 * 51
    for device in DEVICES:
        seconds = flops / (device.peak_tflops * 1e12 * UTILISATION["mast"])
        assert value(row, device.name.lower()) == pytest.approx(seconds / 3600)


def test_test_clips_are_predicted_once_where_no_epoch_is_singled_out() -> None:
    experiment = mast_on("audioset", "balanced")
    once = replace(experiment, recipe=replace(experiment.recipe, report_best=False, average_from=0))
    counts = {("audioset", "balanced"): ClipCounts(1000, 300, "a test")}
    both = [value(planned(e, clips=counts).rows[0], "a100") for e in (experiment, once)]
    assert both[0] / both[1] == pytest.approx((3 * 1000 * 50 + 300 * 51) / (3 * 1000 * 50 + 300))


def test_counts_of_located_data_are_used_and_the_papers_otherwise() -> None:
    experiments = [mast_on("vggsound"), mast_on("kinetics_sounds")]
    table = planned(*experiments, clips={("vggsound", ""): ClipCounts(10, 5, "the data as found")})
    assert [value(row, "clips") for row in table.rows[:2]] == [10, paper.fact("clips_kinetics_sounds_train").value]
    told = " ".join(table.notes)
    assert "vggsound: 10 training and 5 test clips, the data as found" in told
    assert "kinetics_sounds ks32: 22,914 training and 1,585 test clips, the paper's kept clips" in told


@pytest.mark.parametrize("recipe", paper_recipes(), ids=lambda r: f"{r.name} {r.model} {r.dataset} {r.variant}")
def test_every_recipe_of_the_paper_can_be_planned_without_data(recipe: Any) -> None:
    row = planned(to_experiment(recipe, 0)).rows[0]
    assert value(row, "steps") > 0
    assert value(row, "memory") > 0


def test_epic_kitchens_lists_add_up_to_what_the_paper_rounds() -> None:
    unlabelled_test = 13_092
    listed = paper.fact("clips_listed_epic_kitchens_100").value
    assert EPIC_TRAIN + EPIC_VALIDATION + unlabelled_test == pytest.approx(listed, rel=1e-3)


def test_epic_kitchens_validation_count_is_that_of_the_real_list(annotations: Path) -> None:
    lines = (annotations / "epic_kitchens_100/EPIC_100_validation.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) - 1 == EPIC_VALIDATION


def test_a_data_set_that_the_paper_lacks_must_be_located() -> None:
    with pytest.raises(InputError, match="--data esc50=DIR"):
        paper_counts("esc50", "")


def test_found_clips_are_counted_by_the_experiments_own_splits() -> None:
    splits = Strings.of(["train"] * 4 + ["test"] * 2 + ["other"])
    ids = Strings.of([str(i) for i in range(7)])
    none = np.full(7, np.nan)
    index = ClipIndex(
        "vggsound", {"label": ("a",)}, False, Path("x"), ids, ids, splits, none, none,
        {"label": Labels.from_rows([[0]] * 7)},
    )  # fmt: skip
    counts = located_counts(index, mast_on("vggsound"))
    assert (counts.train, counts.test) == (4, 2)


# --- rows ---


def test_seeds_of_a_run_share_a_row_and_the_last_row_adds_up() -> None:
    experiments = [mast_on("audioset", "balanced", seed) for seed in (0, 1, 2)] + [mast_on("vggsound")]
    table = planned(*experiments)
    first, second, total = table.rows
    assert [value(row, "runs") for row in table.rows] == [3, 1, 4]
    assert value(total, "a100") == pytest.approx(3 * value(first, "a100") + value(second, "a100"))
    assert "memory" not in total.cells  # memories do not add up


def test_a_row_names_model_variant_data_and_recipe() -> None:
    strides = POOLING_ABLATIONS["none_at_21"]
    assert run_label(mast_on("audioset", "balanced", pool_strides=strides)) == "mast_base none_at_21, audioset balanced"
    assert run_label(mast_on("vggsound")) == "mast_base, vggsound"
    assert (
        run_label(to_experiment(paper_recipe("ast", "ast", "audioset", "full"), 0)) == 'ast_base, audioset full, "ast"'
    )
    changed = override(paper_recipe("mast", "mast", "vggsound"), {"batch_size": 12})
    assert run_label(to_experiment(changed, 0)) == 'mast_base, vggsound, "mast, batch_size=12"'


def test_only_variants_that_no_device_holds_are_warned_of() -> None:
    experiments = [mast_on("audioset", "balanced", pool_strides=s) for s in POOLING_ABLATIONS.values()]
    warned = [note for note in planned(*experiments).notes if note.startswith("Warning")]
    assert [name for name in POOLING_ABLATIONS if any(f" {name}," in note for note in warned)] == ["none"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_plan_renders_in_every_format(format: str) -> None:
    assert render(planned(mast_on("vggsound"), mast_on("vggsound", seed=1)), format)


# --- measured speeds ---


def speed_record(model: str = "mast_base", processes: int = 1, **changes: Any) -> RunRecord:
    record = make_record(
        model, experiment={"model_config": {}, "front_end": mast_on("vggsound").front_end.to_dict()}, **changes
    )
    metrics = {**record.metrics, "train_clips_per_s": 100.0, "predict_clips_per_s": 400.0}
    return replace(record, metrics=metrics, environment={**record.environment, "processes": processes})


def test_a_measured_training_speed_gives_hours_and_is_named() -> None:
    counts = {("vggsound", ""): ClipCounts(3600, 400, "a test")}
    table = planned(mast_on("vggsound"), clips=counts, records=[speed_record()])
    # 50 epochs of 3600 clips at 100 clips/s, 51 predictions of 400 clips at 400 clips/s.
    assert value(table.rows[0], "measured") == pytest.approx((50 * 36 + 51) / 3600)
    assert any("100.0 clips/s" in note and "invented CPU" in note for note in table.notes)


def test_the_speed_of_several_processes_is_shared_among_them() -> None:
    counts = {("vggsound", ""): ClipCounts(3600, 0, "a test")}
    one, four = (
        value(planned(mast_on("vggsound"), clips=counts, records=[speed_record(processes=n)]).rows[0], "measured")
        for n in (1, 4)
    )
    assert four == pytest.approx(4 * one)


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
    assert "measured" not in planned(mast_on("vggsound"), records=[record]).rows[0].cells


def test_the_newest_speed_counts() -> None:
    old = replace(speed_record(), created="2025-01-01")
    old = replace(old, metrics={**old.metrics, "train_clips_per_s": 1.0})
    newest = planned(mast_on("vggsound"), records=[speed_record(), old]).rows[0]
    assert "100.0 clips/s" in newest.cells["measured"].conditions


# --- memory, against real training steps ---


def kept_bytes(model: SpectrogramTransformer, batch: int) -> int:
    """Bytes that autograd keeps for the backward pass of one training step, parameters and buffers left out."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    x = torch.randn(batch, 1, *model.config.input_size)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(x).square().mean()
        total = sum(storage.nbytes() for storage in storages.values())
    loss.backward()
    return total


@pytest.mark.parametrize(
    ("name", "size", "config"),
    [
        ("mast_tiny", (64, 256), {"attention": "chunked"}),
        ("ast_tiny", (64, 256), {}),
        ("ast_small", (64, 128), {}),
        ("ast_tiny", (64, 256), {"attention": "reference"}),
        ("mast_tiny", (64, 256), {"drop_path_rate": 0.3}),
        ("mast_small", (64, 128), {}),
        ("mast_tiny", (64, 256), {"attention": "folded"}),
        ("mast_tiny", (64, 256), {"cls_token": True}),
        ("mast_debug", (128, 256), {"pool_strides": ((2, 2), (1, 1), (1, 1))}),
    ],
    ids=str,
)
def test_estimated_activations_are_those_that_a_training_step_keeps(
    name: str, size: tuple[int, int], config: dict[str, Any]
) -> None:
    model = create_model(name, num_classes=10, input_size=size, **config).train()
    a_clip = (kept_bytes(model, 3) - kept_bytes(model, 1)) / 2
    assert training_memory(model, 1, "cpu", mixed=False).kept == pytest.approx(a_clip, rel=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "config"), [("ast_tiny", {}), ("mast_tiny", {}), ("mast_tiny", {"attention": "chunked"})]
)
def test_what_large_models_recompute_is_not_counted(
    name: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = create_model(name, num_classes=10, input_size=(64, 256), **config).train()
    plain = training_memory(model, 1, "cpu", mixed=False).kept
    monkeypatch.setattr("models.layers.RECOMPUTED_FROM", 0)
    a_clip = (kept_bytes(model, 3) - kept_bytes(model, 1)) / 2
    estimate = training_memory(model, 1, "cpu", mixed=False).kept
    assert estimate == pytest.approx(a_clip, rel=TOLERANCE)
    assert estimate < 0.8 * plain


def test_the_state_is_that_of_adam() -> None:
    model = create_model("ast_debug", num_classes=10, input_size=(32, 64))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 1, 32, 64)).sum().backward()
    optimizer.step()
    held = [*model.parameters()] + [p.grad for p in model.parameters() if p.grad is not None]
    held += [t for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t) and t.numel() > 1]
    bytes_held = sum(t.numel() * t.element_size() for t in held)
    assert bytes_held == pytest.approx(count_parameters(model) * STATE_BYTES, rel=0.01)
    assert training_memory(model, 1, mixed=False).state == count_parameters(model) * STATE_BYTES


def test_memory_grows_with_the_batch_and_shrinks_with_checkpointing_and_half_precision() -> None:
    with torch.device("meta"):
        model = create_model("mast_base")
    mixed, full = training_memory(model, 8), training_memory(model, 8, mixed=False)
    twice = training_memory(model, 16)
    assert twice.peak - mixed.peak == mixed.kept + mixed.working
    assert training_memory(model, 64, checkpointing=True).peak < training_memory(model, 64).peak
    assert full.kept / 2 < mixed.kept < full.kept
    checkpointed = training_memory(model, 8, mixed=False, checkpointing=True)
    assert checkpointed.kept == 8 * sum(kept.inputs for kept in kept_by_blocks(model, 8)) * FULL


def test_a_plan_knows_how_a_batch_is_put_on_a_device() -> None:
    whole, pieces, recomputed = (
        planned(mast_on("vggsound"), memory=memory).rows[0]
        for memory in (Memory(), Memory(micro_batch=8), Memory(micro_batch=8, checkpointing=True))
    )
    assert value(whole, "memory") > 4 * value(pieces, "memory") > 4 * value(recomputed, "memory")
    assert "8 clips on one device" in pieces.cells["memory"].conditions
    assert value(whole, "steps") == value(pieces, "steps")


def test_a_model_without_block_shapes_is_refused() -> None:
    with pytest.raises(TypeError, match="Linear"):
        kept_by_blocks(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
