"""Training and prediction: the schedule, the losses, and runs that come out the same twice."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from make_records import load_stored
from make_runs import RECIPE, make_model, make_store, outcome, run

from models import SpectrogramTransformer
from models.checkpoints import weights_sha256
from reproduce.data.batches import Batch, EpochPart, EvaluationBatch, evaluation_batches, training_batches
from reproduce.data.rank_share import RankShare
from reproduce.data.waveform_store import DecodedWaveforms, WaveformStore
from reproduce.datasets import Problem
from reproduce.errors import InputError
from reproduce.evaluation.predict import Predictions, as_heads, merge, predict
from reproduce.experiments.paper_recipes import AST_BY_VARIANT, paper_recipe
from reproduce.experiments.recipe import Recipe
from reproduce.experiments.schedule import learning_rate
from reproduce.metrics.scores import accuracy
from reproduce.training.engine import EpochContext, TrainingDiverged, train_one_epoch
from reproduce.training.epoch_meter import EpochMeter, StepReport
from reproduce.training.execution import Progress
from reproduce.training.losses import per_clip_losses
from reproduce.training.optimizers import make_optimizer
from reproduce.training.processes import make_accelerator

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = ("ast_debug", "mast_debug")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WaveformStore:
    """64 clips of a low or a high tone, 32 in each of two folds."""
    return make_store(tmp_path_factory.mktemp("tones") / "data")


def make_batches(store: WaveformStore, recipe: Recipe = RECIPE, epoch: int = 0, **share: Any) -> Iterator[Batch]:
    return training_batches(store, recipe, EpochPart(seed=0, epoch=epoch, share=RankShare(**share)), "cpu")


def train_epoch(
    model: SpectrogramTransformer,
    batches: Iterable[Batch],
    recipe: Recipe = RECIPE,
    optimizer: torch.optim.Optimizer | None = None,
    first_step: int = 0,
    total_steps: int = 8,
    **options: Any,
) -> EpochMeter:
    """`train_one_epoch` on the CPU; `options` are EpochContext's. Without an optimizer it makes one."""
    accelerator, meter = make_accelerator("cpu"), EpochMeter()
    model, optimizer = accelerator.prepare(model, optimizer or make_optimizer(model, recipe))
    context = EpochContext(
        accelerator=accelerator,
        recipe=recipe,
        seed=(0, 0),
        first_step=first_step,
        total_steps=total_steps,
        multilabel=False,
        **options,
    )
    train_one_epoch(context, model, optimizer, batches, meter)
    return meter


# --- schedule and optimizer -----------------------------------------------------------------------------------------


def test_warmup_rises_linearly_to_the_recipes_rate() -> None:
    recipe = replace(RECIPE, lr=0.4, warmup_steps=4)
    assert [learning_rate(recipe, step, 100) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    assert learning_rate(replace(recipe, warmup_steps=0), 0, 10) == pytest.approx(0.4)


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


def halving(epochs: int, **steps: Any) -> Recipe:
    """AST's schedule without its warm-up."""
    return Recipe(epochs=epochs, batch_size=12, warmup_steps=0, schedule="steps", **steps)


def rate_of_each_epoch(recipe: Recipe, steps: int = 7) -> list[float]:
    rates = [learning_rate(recipe, step, steps * recipe.epochs) for step in range(steps * recipe.epochs)]
    by_epoch = [set(rates[i : i + steps]) for i in range(0, len(rates), steps)]
    assert all(len(seen) == 1 for seen in by_epoch)  # it changes between epochs alone
    return [seen.pop() for seen in by_epoch]


# RECIPES 2.6: balanced AudioSet, full AudioSet (the rates that AST's own log shows), ESC-50.
@pytest.mark.parametrize(
    ("recipe", "rates"),
    [
        (
            halving(27, lr=5e-5, decay_start=10, decay_every=5, decay=0.5),
            [5e-5] * 10 + [2.5e-5] * 5 + [1.25e-5] * 5 + [6.25e-6] * 5 + [3.125e-6] * 2,
        ),
        (halving(5, lr=1e-5, decay_start=2, decay_every=1, decay=0.5), [1e-5, 1e-5, 5e-6, 2.5e-6, 1.25e-6]),
        (
            halving(25, lr=1e-4, decay_start=5, decay_every=1, decay=0.85),
            [1e-4] * 5 + [1e-4 * 0.85**n for n in range(1, 21)],
        ),
    ],
    ids=["balanced, two epochs more", "full", "esc50"],
)
def test_asts_steps_give_the_rates_of_its_own_logs(recipe: Recipe, rates: list[float]) -> None:
    assert rate_of_each_epoch(recipe) == pytest.approx(rates)


@pytest.mark.parametrize("variant", AST_BY_VARIANT)
def test_asts_own_recipes_warm_up_every_50_steps_from_zero(variant: str) -> None:
    recipe = paper_recipe("ast", "ast", "audioset", variant).recipe
    steps = {"balanced": 20_796, "full": 1_953_084}[variant] // recipe.batch_size  # an epoch of AST's own
    rates = [learning_rate(recipe, step, steps * recipe.epochs) for step in range(1100)]
    by_hand = [recipe.lr * (step // 50 * 50) / 1000 for step in range(1000)] + [recipe.lr] * 100
    assert rates == pytest.approx(by_hand)
    assert rates[0] == rates[49] == 0.0 < rates[50] == rates[99] < rates[100]


@pytest.mark.parametrize("name", MODELS)
def test_asts_adam_decays_every_parameter_by_an_l2_term(name: str) -> None:
    model = make_model(name)
    optimizer = make_optimizer(model, replace(RECIPE, optimizer="adam", weight_decay=0.5, betas=(0.95, 0.999)))
    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}
    assert (group["weight_decay"], group["betas"]) == (0.5, (0.95, 0.999))
    assert not group.get("decoupled_weight_decay", False)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    # Where the loss has no gradient, the L2 term is all that Adam's first moment has seen.
    for key, value in model.named_parameters():
        assert torch.allclose(optimizer.state[value]["exp_avg"], 0.05 * 0.5 * before[key]), key


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_in_one_group_and_biases_and_norms_are_not_decayed(name: str) -> None:
    model = make_model(name)
    optimizer = make_optimizer(model, replace(RECIPE, weight_decay=0.07, betas=(0.8, 0.95)))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == sum(len(group["params"]) for group in optimizer.param_groups)
    assert set(model.no_weight_decay()) <= {name for name, _ in model.named_parameters()}
    for parameter_name, parameter in model.named_parameters():
        exempt = parameter.ndim <= 1 or parameter_name in model.no_weight_decay()
        assert decay.pop(id(parameter)) == (0.0 if exempt else 0.07), parameter_name
    assert not decay
    assert all(group["betas"] == (0.8, 0.95) for group in optimizer.param_groups)


# --- losses ---------------------------------------------------------------------------------------------------------


def mean_loss(
    logits: dict[str, torch.Tensor], targets: dict[str, torch.Tensor], multilabel: bool, smoothing: float = 0.0
) -> float:
    losses = per_clip_losses(logits, targets, multilabel, smoothing)
    assert losses.shape == (len(next(iter(targets.values()))),)
    return losses.mean().item()


def test_soft_targets_of_hard_labels_give_plain_cross_entropy() -> None:
    logits, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 1, 1])
    targets = F.one_hot(labels, 4).float()
    for smoothing in (0.0, 0.1):
        ours = mean_loss({"label": logits}, {"label": targets}, False, smoothing)
        assert ours == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=smoothing).item())


def test_a_mixed_label_is_learnt_as_both_classes_and_not_as_class_0() -> None:
    target = {"label": torch.tensor([[0.0, 0.6, 0.4, 0.0]])}

    def loss(*logits: float) -> float:
        return mean_loss({"label": torch.tensor([logits])}, target, multilabel=False)

    best = loss(-20.0, math.log(0.6), math.log(0.4), -20.0)
    assert best == pytest.approx(-(0.6 * math.log(0.6) + 0.4 * math.log(0.4)), abs=1e-4)  # the target's entropy
    assert loss(20.0, 0.0, 0.0, 0.0) > 10 * best


def test_multilabel_loss_is_binary_cross_entropy_of_labels_smoothed_as_scenic_does() -> None:
    logits, targets = torch.tensor([[0.0, 2.0, -1.0]]), torch.tensor([[1.0, 0.0, 0.3]])
    chance = torch.sigmoid(logits)
    for smoothing in (0.0, 0.3):
        smoothed = targets * (1 - smoothing) + smoothing / 3
        by_class = -(smoothed * chance.log() + (1 - smoothed) * (1 - chance).log())
        assert mean_loss({"label": logits}, {"label": targets}, True, smoothing) == pytest.approx(
            by_class.mean().item()
        )
        summed = per_clip_losses({"label": logits}, {"label": targets}, True, smoothing, "sum")
        assert summed.item() == pytest.approx(by_class.sum().item())


def test_mbts_sgd_has_momentum_and_no_adam() -> None:
    model = make_model("ast_debug")
    optimizer = make_optimizer(model, replace(RECIPE, optimizer="sgd", weight_decay=0.0, betas=(0.9, 0.999)))
    assert type(optimizer) is torch.optim.SGD
    (group,) = optimizer.param_groups
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 0.0, False)
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}


def test_the_loss_of_two_heads_is_their_mean() -> None:
    logits = {"verb": torch.tensor([[1.0, 0.0]]), "noun": torch.tensor([[0.0, 0.0, 3.0]])}
    targets = {"verb": torch.tensor([[1.0, 0.0]]), "noun": torch.tensor([[0.0, 1.0, 0.0]])}
    apart = [mean_loss({h: logits[h]}, {h: targets[h]}, False) for h in ("verb", "noun")]
    assert mean_loss(logits, targets, False) == pytest.approx(sum(apart) / 2)


def test_a_single_head_has_the_name_that_data_sets_use() -> None:
    logits = torch.zeros(2, 3)
    assert as_heads(logits) == {"label": logits}
    assert as_heads({"verb": logits}) == {"verb": logits}


# --- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [0, 1])
def test_a_loss_that_is_not_finite_stops_the_run_and_blames_its_clips(store: WaveformStore, lag: int) -> None:
    good, bad = list(make_batches(store))[:2]
    inputs = bad.inputs.clone()
    inputs[[1, 3]] = math.nan
    reports: list[StepReport] = []
    with pytest.raises(TrainingDiverged, match="the loss became nan at step 6") as error:
        train_epoch(
            make_model(),
            [good, replace(bad, inputs=inputs), good],
            first_step=5,
            total_steps=10,
            on_step=reports.append,
            lag=lag,
        )
    assert isinstance(error.value, InputError) and "\n" not in str(error.value)
    assert len(reports) == 1  # the good step; the others are not reported
    assert error.value.positions == tuple(int(position) for position in bad.positions[[1, 3]])


def test_gradients_that_are_not_finite_stop_the_run(store: WaveformStore) -> None:
    model = make_model()
    next(model.parameters()).register_hook(lambda gradient: gradient * math.inf)
    batch = next(make_batches(store))
    with pytest.raises(TrainingDiverged, match=r"the gradients have norm (nan|inf) at step 0") as error:
        train_epoch(model, [batch])
    assert error.value.positions == tuple(int(position) for position in batch.positions)


def test_an_epochs_summary_counts_its_steps_and_clips(store: WaveformStore) -> None:
    reports: list[StepReport] = []
    recipe = replace(RECIPE, batch_size=24)
    meter = train_epoch(make_model(), make_batches(store, recipe), recipe, total_steps=3, on_step=reports.append)
    summary = meter.summary()
    assert [(report.clips, report.stop) for report in reports] == [(24, False), (24, False), (16, False)]
    assert summary["loss"] == pytest.approx(sum(report.loss for report in reports) / 64)
    assert (summary["steps"], summary["clips"]) == (3, 64)
    assert summary["lr"] == learning_rate(recipe, 2, 3)
    assert summary["clips_per_s"] > 0
    shares = [summary[name] for name in ("data_share", "model_share", "optimizer_share")]
    assert sum(shares) == pytest.approx(1, abs=2e-4) and min(shares) > 0
    assert sum(getattr(meter, name) for name in ("data_s", "model_s", "optimizer_s")) <= meter.seconds


@pytest.mark.parametrize("lag", [0, 1])
def test_a_request_to_stop_is_reported_with_every_step_counted(store: WaveformStore, lag: int) -> None:
    asked = iter([False, False, True, False, False, False, False, False])
    meter_steps: list[tuple[bool, int]] = []
    accelerator, meter = make_accelerator("cpu"), EpochMeter()
    model = make_model()
    taken: list[int] = []
    optimizer = make_optimizer(model, RECIPE)
    optimizer.register_step_post_hook(lambda *_: taken.append(1))
    context = EpochContext(
        accelerator=accelerator,
        recipe=RECIPE,
        seed=(0, 0),
        first_step=0,
        total_steps=8,
        multilabel=False,
        stop=lambda: next(asked),
        on_step=lambda report: meter_steps.append((report.stop, meter.steps - len(taken))),
        lag=lag,
    )
    train_one_epoch(context, *accelerator.prepare(model, optimizer), make_batches(store), meter)
    assert [stop for stop, _ in meter_steps] == [False, False, True] + [False] * 5
    assert meter_steps[2] == (True, 0)  # what is counted is what the weights have seen
    assert len(meter_steps) == len(taken) == meter.steps == 8


@pytest.mark.parametrize("name", MODELS)
def test_reading_the_numbers_a_step_later_changes_none(store: WaveformStore, name: str) -> None:
    weights, losses = [], []
    for lag in (0, 1, 3):
        model, reports = make_model(name), list[StepReport]()
        train_epoch(model, make_batches(store), on_step=reports.append, lag=lag)
        weights.append(weights_sha256(model))
        losses.append([report.loss for report in reports])
    assert weights[0] == weights[1] == weights[2]
    assert losses[0] == losses[1] == losses[2] and len(losses[0]) == 8


def test_the_fused_optimizer_resumes_bit_for_bit(store: WaveformStore) -> None:
    batches = list(make_batches(store))
    through, resumed = make_model(), make_model()
    optimizer = make_optimizer(through, RECIPE)
    train_epoch(through, batches, optimizer=optimizer)
    first = make_optimizer(resumed, RECIPE)
    train_epoch(resumed, batches[:3], optimizer=first)
    state = copy.deepcopy(first.state_dict())
    again = make_model(seed=1)
    again.load_state_dict(resumed.state_dict())
    second = make_optimizer(again, RECIPE)
    second.load_state_dict(state)
    train_epoch(again, batches[3:], optimizer=second)
    assert weights_sha256(again) == weights_sha256(through)


def test_every_step_is_taken_at_the_rate_of_the_schedule(store: WaveformStore) -> None:
    model = make_model()
    optimizer = make_optimizer(model, RECIPE)
    rates: list[set[float]] = []
    train_epoch(
        model,
        make_batches(store),
        optimizer=optimizer,
        first_step=4,
        total_steps=20,
        on_step=lambda _: rates.append({group["lr"] for group in optimizer.param_groups}),
    )
    assert rates == [{learning_rate(RECIPE, step, 20)} for step in range(4, 12)]


def gradients(model: SpectrogramTransformer) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_gradients_are_clipped_to_the_recipes_norm(store: WaveformStore) -> None:
    model = make_model()
    train_epoch(model, make_batches(store), replace(RECIPE, clip_norm=1e-3))
    assert gradients(model).norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_a_norm_of_0_leaves_the_gradients_alone(store: WaveformStore) -> None:
    (batch, *_), model, same = make_batches(store), make_model(), make_model()
    train_epoch(model, [batch], replace(RECIPE, clip_norm=0.0))
    per_clip_losses(as_heads(same(batch.inputs)), batch.targets, False).mean().backward()
    assert gradients(same).norm() > 1e-2
    assert torch.allclose(gradients(model), gradients(same), atol=1e-7)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_micro_batches_train_as_the_whole_batch_does(store: WaveformStore, name: str, micro_batch: int) -> None:
    """With plain gradient descent: Adam hides a wrong scale, and amplifies rounding where a gradient is 0."""
    recipe, train = replace(RECIPE, batch_size=13, lr=0.05), store.where_split("1")  # 32 = 2 * 13 + 6
    curves: dict[int | None, list[float]] = {}
    models = {pieces: make_model(name) for pieces in (None, micro_batch)}
    for pieces, model in models.items():
        losses: list[float] = []
        batches = list(make_batches(train, recipe, micro_batch=pieces))
        assert max(len(batch.inputs) for batch in batches) == (pieces or 13)
        train_epoch(
            model,
            batches,
            recipe,
            torch.optim.SGD(model.parameters()),
            on_step=lambda report, losses=losses: losses.append(report.loss / report.clips),
        )
        curves[pieces] = losses
    assert len(curves[None]) == 3
    assert curves[micro_batch] == pytest.approx(curves[None], abs=1e-5)
    theirs = models[None].state_dict()
    for key, value in models[micro_batch].state_dict().items():
        assert torch.allclose(value, theirs[key], atol=1e-5), key


def test_a_clip_of_weight_0_does_not_count(store: WaveformStore) -> None:
    """Neither the loss nor the gradients depend on its input."""
    (batch, *_), weights = make_batches(store), torch.ones(8)
    weights[[2, 5]] = 0.0
    noisy = batch.inputs.clone()
    noisy[[2, 5]] = 30.0
    one, other = make_model(), make_model()
    sums = [
        train_epoch(model, [replace(batch, inputs=inputs, weights=weights)], replace(RECIPE, clip_norm=0.0))
        for model, inputs in ((one, batch.inputs), (other, noisy))
    ]
    assert sums[0].clips == sums[1].clips == 6
    assert sums[0].loss == pytest.approx(sums[1].loss, rel=1e-6)
    assert torch.allclose(gradients(one), gradients(other), atol=1e-7)
    losses = per_clip_losses(as_heads(make_model()(batch.inputs)), batch.targets, False)
    assert sums[0].loss == pytest.approx(losses[weights > 0].sum().item(), rel=1e-5)


# --- prediction -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_predictions_do_not_depend_on_the_batch(store: WaveformStore, name: str) -> None:
    model = make_model(name, drop_path_rate=0.5)
    alone = predict(model, evaluation_batches(store, 1, "cpu"), multilabel=False)
    together = predict(model, evaluation_batches(store, 48, "cpu"), multilabel=False)
    assert np.allclose(alone.logits["label"], together.logits["label"], atol=1e-5)
    assert np.allclose(alone.embeddings, together.embeddings, atol=1e-4)
    assert together.logits["label"].shape == (64, 2)
    assert together.embeddings.shape == (64, model.embedding_dim)
    assert together.positions.tolist() == list(range(64))


@pytest.mark.parametrize("multilabel", [False, True])
def test_several_crops_of_a_clip_give_the_logits_of_their_mean_probabilities(multilabel: bool) -> None:
    model = make_model()
    inputs = torch.randn(5, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    crops = np.array([1, 3, 1])
    predictions = predict(model, [EvaluationBatch(inputs, np.array([4, 7, 9]), crops, ())], multilabel)
    with torch.inference_mode():
        embeddings = model.pool(model.forward_features(inputs))
        logits = model(inputs)
    chances = logits.sigmoid() if multilabel else logits.softmax(dim=1)
    ours = torch.from_numpy(predictions.logits["label"])
    ours = ours.sigmoid() if multilabel else ours.softmax(dim=1)
    assert torch.allclose(ours[1], chances[1:4].mean(dim=0), atol=1e-6)
    assert torch.allclose(ours[[0, 2]], chances[[0, 4]], atol=1e-6)
    assert np.allclose(predictions.embeddings[1], embeddings[1:4].mean(dim=0), atol=1e-5)
    assert torch.allclose(torch.from_numpy(predictions.logits["label"])[[0, 2]], logits[[0, 4]], atol=1e-6)  # its own
    assert predictions.positions.tolist() == [4, 7, 9]


def test_unusable_clips_are_reported_and_a_set_of_them_alone_is_an_error() -> None:
    problem = Problem("one", "truncated", "one.wav: truncated")
    nothing = EvaluationBatch(torch.empty(0, 1, 32, 32), np.empty(0, np.int64), np.empty(0, np.int64), (problem,))
    clip = EvaluationBatch(torch.zeros(1, 1, 32, 32), np.array([3]), np.array([1]), ())
    predictions = predict(make_model(), [nothing, clip], False)
    assert (predictions.positions.tolist(), predictions.problems) == ([3], (problem,))
    with pytest.raises(InputError, match=r"none of the clips to predict can be used \(first: one.wav: truncated\)"):
        merge([predict(make_model(), [nothing], False)])
    assert merge([predict(make_model(), [nothing], False), predictions]).positions.tolist() == [3]


def test_parts_of_several_processes_merge_in_the_order_of_their_clips() -> None:
    def part(*positions: int, seconds: float) -> Predictions:
        rows = np.array(positions, np.float32)[:, None]
        logits = {"verb": rows, "noun": -rows}
        timed = len(positions)
        return Predictions(
            positions=np.array(positions), logits=logits, embeddings=10 * rows, seconds=seconds, timed=timed
        )

    merged = merge([part(3, 4, seconds=2.0), part(0, 1, 2, seconds=1.0)])
    assert merged.positions.tolist() == [0, 1, 2, 3, 4]
    assert merged.logits["verb"].ravel().tolist() == [0, 1, 2, 3, 4]
    assert merged.logits["noun"].ravel().tolist() == [0, -1, -2, -3, -4]
    assert merged.embeddings.ravel().tolist() == [0, 10, 20, 30, 40]
    assert merged.clips_per_s == 2.5  # five clips in two seconds: they work at the same time


# --- whole runs -----------------------------------------------------------------------------------------------------


def draw_numbers(epoch: int, summary: dict[str, float]) -> None:
    torch.rand(7)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_experiment_twice_gives_the_same_weights_and_scores(
    store: WaveformStore, tmp_path: Path, name: str
) -> None:
    first = run(store, tmp_path / "a", name)
    # Random numbers drawn by others, before and between the epochs, do not matter.
    torch.rand(7)
    second = run(store, tmp_path / "b", name, progress=Progress(on_epoch=draw_numbers))
    assert outcome(first) == outcome(second)
    sides = {"a": first, "b": second}
    stored = [np.load(tmp_path / side / "records" / str(record.predictions)) for side, record in sides.items()]
    assert all(np.array_equal(stored[0][key], stored[1][key]) for key in stored[0].files)


def test_another_seed_gives_another_key_and_other_weights(store: WaveformStore, tmp_path: Path) -> None:
    first, second = (run(store, tmp_path, seed=seed) for seed in (0, 1))
    assert first.key != second.key
    assert first.weights_sha256 != second.weights_sha256
    assert load_stored(tmp_path / "records") == [first, second]


def test_a_runs_schedule_score_and_files_agree(store: WaveformStore, tmp_path: Path) -> None:
    record = run(store, tmp_path)  # two epochs of four steps
    assert [epoch["epoch"] for epoch in record.history] == [1, 2]
    assert [epoch["lr"] for epoch in record.history] == [learning_rate(RECIPE, step, 8) for step in (3, 7)]
    with np.load(tmp_path / "records" / str(record.predictions)) as stored:
        targets = stored["targets_label"].argmax(axis=1)
        assert accuracy(stored["logits_label"], targets) == pytest.approx(record.metrics["top1"])
        test = store.index.where_split("2")
        assert list(stored["clip_ids"]) == list(test.clip_ids)
        assert list(stored["groups"]) == list(test.units())
        assert stored["embeddings"].shape[0] == record.metrics["clips"] == 32
    assert (tmp_path / "runs" / f"{record.key}.safetensors").is_file()


def test_a_run_that_diverges_names_the_clip_and_stores_nothing(store: WaveformStore, tmp_path: Path) -> None:
    waveforms = [np.full_like(w, np.nan) if i == 5 else w for i, w in enumerate(store.waveforms)]
    broken = replace(store, waveforms=DecodedWaveforms(waveforms))
    with pytest.raises(TrainingDiverged, match=r"the loss became nan at step [0-3]") as error:
        run(broken, tmp_path, recipe=replace(RECIPE, mixup=0.0))
    assert str(error.value).endswith(f"or check these clips of that step: {store.index.clip_ids[5]}")
    assert load_stored(tmp_path / "records") == []
    assert list((tmp_path / "runs").rglob("*.safetensors")) == list((tmp_path / "runs").rglob("*.pt")) == []
