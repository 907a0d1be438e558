"""Training and prediction: the schedule, the losses, and runs that come out the same twice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from make_audio import make_esc50_folder

from models import create_model
from models.checkpoints import weights_sha256
from reproduce.audio_spec import AudioSpec
from reproduce.datasets import ClipIndex, read_dataset
from reproduce.engine import (
    TrainingDiverged,
    as_heads,
    classification_loss,
    learning_rate,
    make_optimizer,
    predict,
    train_one_epoch,
)
from reproduce.errors import InputError
from reproduce.experiments import Experiment, Recipe
from reproduce.loading import Batch, WaveformStore, evaluation_batches, load_waveforms, training_batches
from reproduce.metrics import accuracy
from reproduce.records import RunRecord, load_records
from reproduce.runner import Progress, run_experiment

MODELS = ("ast_debug", "mast_debug")
SPEC = AudioSpec(mels=32, frames=32, frame_shift_ms=30.0, mean=-6.6, std=5.4)
RECIPE = Recipe(
    epochs=2, batch_size=8, lr=1e-3, warmup_steps=2, drop_path_rate=0.1, mixup=0.5, freq_mask=4, time_mask=4
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    """64 clips of a low or a high tone, 32 in each of two folds."""
    root = make_esc50_folder(tmp_path_factory.mktemp("tones") / "data", per_fold=16, folds=2)
    return read_dataset("esc50", root)


@pytest.fixture(scope="module")
def store(index: ClipIndex) -> WaveformStore:
    return load_waveforms(index, SPEC)


def make_batches(store: WaveformStore, epoch: int = 0) -> Iterator[Batch]:
    return training_batches(store, RECIPE, 0, epoch, "cpu")


# --- schedule and optimizer -----------------------------------------------------------------------------------------


def test_warmup_rises_linearly_to_the_recipes_rate() -> None:
    recipe = replace(RECIPE, lr=0.4, warmup_steps=4)
    assert [learning_rate(recipe, step, 100) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])


def test_the_cosine_passes_half_the_rate_halfway_and_ends_near_zero() -> None:
    recipe = replace(RECIPE, lr=1.0, warmup_steps=10)
    rates = [learning_rate(recipe, step, 110) for step in range(110)]
    assert rates[60] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3
    assert all(a > b for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize("total", [1, 3])
def test_a_warmup_longer_than_the_run_still_reaches_the_rate(total: int) -> None:
    recipe = replace(RECIPE, lr=0.3, warmup_steps=1000)
    rates = [learning_rate(recipe, step, total) for step in range(total)]
    assert rates == pytest.approx([0.3 * (step + 1) / total for step in range(total)])


def test_no_warmup_starts_at_the_rate() -> None:
    assert learning_rate(replace(RECIPE, lr=0.3, warmup_steps=0), 0, 10) == pytest.approx(0.3)


@pytest.mark.parametrize("name", MODELS)
def test_biases_norms_and_exempt_tensors_are_not_decayed_and_nothing_is_forgotten(name: str) -> None:
    model = create_model(name, num_classes=2, input_size=(32, 32))
    optimizer = make_optimizer(model, replace(RECIPE, weight_decay=0.07, betas=(0.8, 0.95)))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == sum(len(group["params"]) for group in optimizer.param_groups)
    for parameter_name, parameter in model.named_parameters():
        exempt = parameter.ndim <= 1 or parameter_name in model.no_weight_decay()
        assert decay.pop(id(parameter)) == (0.0 if exempt else 0.07), parameter_name
    assert not decay
    assert all(group["betas"] == (0.8, 0.95) for group in optimizer.param_groups)


def test_the_exempt_names_exist_in_the_model() -> None:
    for name in MODELS:
        model = create_model(name, num_classes=2, input_size=(32, 32))
        assert set(model.no_weight_decay()) <= {n for n, _ in model.named_parameters()}


# --- losses ---------------------------------------------------------------------------------------------------------


def test_soft_targets_of_hard_labels_give_plain_cross_entropy() -> None:
    logits, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 1, 1])
    targets = F.one_hot(labels, 4).float()
    for smoothing in (0.0, 0.1):
        ours = classification_loss({"label": logits}, {"label": targets}, False, smoothing)
        assert ours.item() == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=smoothing).item())


def test_a_mixed_label_is_learnt_as_both_classes_and_not_as_class_0() -> None:
    target = {"label": torch.tensor([[0.0, 0.6, 0.4, 0.0]])}

    def loss(*logits: float) -> float:
        return classification_loss({"label": torch.tensor([logits])}, target, multilabel=False).item()

    best = loss(-20.0, math.log(0.6), math.log(0.4), -20.0)
    assert best == pytest.approx(-(0.6 * math.log(0.6) + 0.4 * math.log(0.4)), abs=1e-4)  # the target's entropy
    assert loss(20.0, 0.0, 0.0, 0.0) > 10 * best


def test_multilabel_loss_is_binary_cross_entropy_without_smoothing() -> None:
    logits, targets = torch.tensor([[0.0, 2.0, -1.0]]), torch.tensor([[1.0, 0.0, 0.3]])
    chance = torch.sigmoid(logits)
    by_hand = -(targets * chance.log() + (1 - targets) * (1 - chance).log()).mean().item()
    for smoothing in (0.0, 0.1):
        ours = classification_loss({"label": logits}, {"label": targets}, True, smoothing)
        assert ours.item() == pytest.approx(by_hand)


def test_the_loss_of_two_heads_is_their_mean() -> None:
    logits = {"verb": torch.tensor([[1.0, 0.0]]), "noun": torch.tensor([[0.0, 0.0, 3.0]])}
    targets = {"verb": torch.tensor([[1.0, 0.0]]), "noun": torch.tensor([[0.0, 1.0, 0.0]])}
    apart = [classification_loss({h: logits[h]}, {h: targets[h]}, False).item() for h in ("verb", "noun")]
    assert classification_loss(logits, targets, False).item() == pytest.approx(sum(apart) / 2)


def test_a_single_head_answers_to_the_name_that_data_sets_use() -> None:
    logits = torch.zeros(2, 3)
    assert as_heads(logits) == {"label": logits}
    assert as_heads({"verb": logits}) == {"verb": logits}


# --- training -------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_before_the_weights_change(store: WaveformStore) -> None:
    model = create_model("ast_debug", num_classes=2, input_size=(32, 32))
    good, bad = list(make_batches(store))[:2]
    bad = replace(bad, inputs=torch.full_like(bad.inputs, math.nan))
    optimizer = make_optimizer(model, RECIPE)
    seen: list[str] = []
    with pytest.raises(TrainingDiverged, match="the loss became nan at step 6") as error:
        train_one_epoch(
            model, [good, bad, good], optimizer, RECIPE, 5, 10, False, lambda *_: seen.append(weights_sha256(model))
        )
    assert isinstance(error.value, InputError) and "\n" not in str(error.value)
    assert seen == [weights_sha256(model)]  # one good step, and the weights are still those after it


def test_an_epochs_summary_counts_what_it_did(store: WaveformStore) -> None:
    model = create_model("ast_debug", num_classes=2, input_size=(32, 32))
    losses: list[tuple[int, float]] = []
    recipe = replace(RECIPE, batch_size=24)
    batches = training_batches(store, recipe, 0, 0, "cpu")
    summary = train_one_epoch(
        model, batches, make_optimizer(model, recipe), recipe, 0, 3, False, lambda *step: losses.append(step)
    )
    assert [size for size, _ in losses] == [24, 24, 16]
    assert summary["loss"] == pytest.approx(sum(size * loss for size, loss in losses) / 64)
    assert (summary["steps"], summary["clips"]) == (3, 64)
    assert summary["lr"] == learning_rate(recipe, 2, 3)
    assert summary["clips_per_s"] > 0


def test_every_step_is_taken_at_the_rate_of_the_schedule(store: WaveformStore) -> None:
    model = create_model("ast_debug", num_classes=2, input_size=(32, 32))
    optimizer = make_optimizer(model, RECIPE)
    rates: list[set[float]] = []
    train_one_epoch(
        model,
        make_batches(store),
        optimizer,
        RECIPE,
        4,
        20,
        False,
        lambda *_: rates.append({group["lr"] for group in optimizer.param_groups}),
    )
    assert rates == [{learning_rate(RECIPE, step, 20)} for step in range(4, 12)]


def test_gradients_are_clipped_to_the_recipes_norm(store: WaveformStore) -> None:
    model = create_model("ast_debug", num_classes=2, input_size=(32, 32))
    recipe = replace(RECIPE, clip_norm=1e-3)
    train_one_epoch(model, make_batches(store), make_optimizer(model, recipe), recipe, 0, 8, False)
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    assert torch.cat(gradients).norm().item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_trained(store: WaveformStore, name: str) -> None:
    model = create_model(name, num_classes=2, input_size=(32, 32))
    before = {key: value.clone() for key, value in model.named_parameters()}
    train_one_epoch(model, make_batches(store), make_optimizer(model, RECIPE), RECIPE, 0, 8, False)
    assert [key for key, value in model.named_parameters() if torch.equal(value, before[key])] == []


@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_to_tell_a_low_from_a_high_tone(store: WaveformStore, name: str) -> None:
    torch.manual_seed(0)
    train, test = store.where_split("1"), store.where_split("2")
    model = create_model(name, num_classes=2, input_size=(32, 32))
    recipe = Recipe(epochs=6, batch_size=8, lr=3e-3, warmup_steps=4)
    optimizer = make_optimizer(model, recipe)
    for epoch in range(recipe.epochs):
        batches = training_batches(train, recipe, 0, epoch, "cpu")
        train_one_epoch(model, batches, optimizer, recipe, 4 * epoch, 24, False)
    logits = predict(model, evaluation_batches(test, 32, "cpu")).logits["label"]
    assert accuracy(logits, test.index.targets().argmax(axis=1)) > 90


# --- prediction -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_predictions_do_not_depend_on_the_batch(store: WaveformStore, name: str) -> None:
    model = create_model(name, num_classes=2, input_size=(32, 32), drop_path_rate=0.5)
    alone = predict(model, evaluation_batches(store, 1, "cpu"))
    together = predict(model, evaluation_batches(store, 48, "cpu"))
    assert np.allclose(alone.logits["label"], together.logits["label"], atol=1e-5)
    assert np.allclose(alone.embeddings, together.embeddings, atol=1e-4)
    assert together.logits["label"].shape == (64, 2)
    assert together.embeddings.shape == (64, model.embedding_dim)


def test_predictions_of_several_heads_come_by_name(store: WaveformStore) -> None:
    model = create_model("mast_debug", num_classes={"verb": 3, "noun": 5}, input_size=(32, 32))
    predictions = predict(model, evaluation_batches(store, 32, "cpu"))
    assert {head: logits.shape for head, logits in predictions.logits.items()} == {"verb": (64, 3), "noun": (64, 5)}


# --- whole runs -----------------------------------------------------------------------------------------------------


def run(
    index: ClipIndex,
    store: WaveformStore,
    folder: Path,
    model: str = "mast_debug",
    seed: int = 0,
    progress: Progress = Progress(),  # noqa: B008 (frozen)
) -> RunRecord:
    experiment = Experiment(model, "esc50", ("1",), ("2",), SPEC, RECIPE, "demo", seed=seed)
    return run_experiment(experiment, store, folder / "records", folder / "runs", "cpu", progress)


def draw_numbers(epoch: int, summary: dict[str, float]) -> None:
    torch.rand(7)


def without_speeds(record: RunRecord) -> dict[str, object]:
    return {name: value for name, value in record.metrics.items() if not name.endswith("_per_s")}


@pytest.mark.parametrize("name", MODELS)
def test_the_same_experiment_twice_gives_the_same_weights_and_scores(
    index: ClipIndex, store: WaveformStore, tmp_path: Path, name: str
) -> None:
    first = run(index, store, tmp_path / "a", name)
    # Random numbers drawn by others, before and between the epochs, do not matter.
    torch.rand(7)
    second = run(index, store, tmp_path / "b", name, progress=Progress(on_epoch=draw_numbers))
    assert first.weights_sha256 == second.weights_sha256
    assert without_speeds(first) == without_speeds(second)
    assert [epoch["loss"] for epoch in first.history] == [epoch["loss"] for epoch in second.history]
    sides = {"a": first, "b": second}
    stored = [np.load(tmp_path / side / "records" / str(record.predictions)) for side, record in sides.items()]
    assert all(np.array_equal(stored[0][key], stored[1][key]) for key in stored[0].files)


def test_another_seed_gives_another_key_and_other_weights(
    index: ClipIndex, store: WaveformStore, tmp_path: Path
) -> None:
    first, second = (run(index, store, tmp_path, seed=seed) for seed in (0, 1))
    assert first.key != second.key
    assert first.weights_sha256 != second.weights_sha256
    assert load_records(tmp_path / "records") == [first, second]


def test_the_schedule_runs_over_all_epochs(index: ClipIndex, store: WaveformStore, tmp_path: Path) -> None:
    history = run(index, store, tmp_path).history  # two epochs of four steps
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert [epoch["lr"] for epoch in history] == [learning_rate(RECIPE, step, 8) for step in (3, 7)]


def test_stored_predictions_give_the_recorded_score(index: ClipIndex, store: WaveformStore, tmp_path: Path) -> None:
    record = run(index, store, tmp_path)
    with np.load(tmp_path / "records" / str(record.predictions)) as stored:
        targets = stored["targets_label"].argmax(axis=1)
        assert accuracy(stored["logits_label"], targets) == pytest.approx(record.metrics["top1"])
        assert list(stored["clip_ids"]) == list(map(str, index.where_split("2").clip_ids))
        assert stored["embeddings"].shape[0] == record.metrics["clips"] == 32
    assert (tmp_path / "runs" / f"{record.key}.safetensors").is_file()


def test_a_run_that_diverges_leaves_no_record(index: ClipIndex, store: WaveformStore, tmp_path: Path) -> None:
    broken = replace(store, waveforms=tuple(np.full_like(w, np.nan) for w in store.waveforms))
    with pytest.raises(TrainingDiverged):
        run(index, broken, tmp_path)
    assert load_records(tmp_path / "records") == []
    assert not (tmp_path / "runs").exists()
