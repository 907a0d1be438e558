"""Batches: the same epoch from memory, files and any number of ranks; clips that cannot be used stop nothing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from make_audio import RATE, make_esc50_folder, tone

from reproduce.audio.spec import AudioSpec
from reproduce.data.batches import (
    Batch,
    EpochPart,
    EvaluationBatch,
    epoch_order,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from reproduce.data.rank_share import RankShare
from reproduce.data.waveform_store import (
    DecodedWaveforms,
    FileWaveforms,
    WaveformStore,
    load_waveforms,
    stream_waveforms,
)
from reproduce.datasets import ClipIndex, read_dataset
from reproduce.datasets.index import Labels
from reproduce.datasets.strings import Strings
from reproduce.errors import InputError
from reproduce.experiments.recipe import Recipe

SPEC = AudioSpec(mels=16, frames=32, frame_shift_ms=30.0, mean=-6.6, std=5.4)  # 0.955 s
RECIPE = Recipe(epochs=1, batch_size=8, lr=1e-3, warmup_steps=0, mixup=0.5, freq_mask=4, time_mask=8)
PLAIN = Recipe(epochs=1, batch_size=8, lr=1e-3, warmup_steps=0)
EVERYTHING = replace(RECIPE, crop="random")
ALONE = RankShare()
CLIPS = 20

# Two worker processes are what is tested, even where there is one core.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WaveformStore:
    """20 clips: two folds of five of each class."""
    root = make_esc50_folder(tmp_path_factory.mktemp("esc50") / "data", per_fold=5, folds=2)
    return load_waveforms(read_dataset("esc50", root), SPEC)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    """20 clips, each a class of its own, so that targets tell who was mixed with whom; some short, some long."""
    root = make_esc50_folder(tmp_path_factory.mktemp("uneven") / "data", per_fold=5, folds=2)
    for number, path in enumerate(sorted((root / "audio").iterdir())):
        soundfile.write(path, tone(200.0 + 90 * number, seconds=(0.3, 1.0, 2.5)[number % 3], seed=number), RATE)
    names = tuple(f"class {i}" for i in range(CLIPS))
    labels = {"label": Labels.from_rows([[i] for i in range(CLIPS)])}
    return replace(read_dataset("esc50", root), classes={"label": names}, labels=labels)


def epoch_of(
    store: WaveformStore,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    epoch: int = 0,
    share: RankShare = ALONE,
    first_step: int = 0,
    workers: int = 0,
) -> list[Batch]:
    part = EpochPart(seed=seed, epoch=epoch, share=share, first_step=first_step)
    return list(training_batches(store, recipe, part, "cpu", workers))


def positions(batches: list[Batch] | list[EvaluationBatch]) -> list[int]:
    return [int(p) for batch in batches for p in batch.positions]


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    """Every bit of every batch."""
    for a, b in zip(first, second, strict=True):
        assert (a.step, a.last, a.clips) == (b.step, b.last, b.clips)
        assert a.positions.tolist() == b.positions.tolist()
        assert torch.equal(a.inputs, b.inputs) and torch.equal(a.weights, b.weights)
        assert a.targets.keys() == b.targets.keys()
        assert all(torch.equal(a.targets[head], b.targets[head]) for head in a.targets)


@dataclass(frozen=True)
class Row:
    """One clip of a batch."""

    inputs: torch.Tensor
    target: torch.Tensor
    weight: float


def longest(store: WaveformStore) -> int:
    return max(len(store.waveforms[i]) for i in range(len(store)))


def by_position(batches: list[Batch]) -> dict[int, Row]:
    """Of an epoch that has each clip once; rows without weight give way to the others."""
    rows: dict[int, Row] = {}
    for batch in batches:
        for i, position in enumerate(batch.positions.tolist()):
            row = Row(batch.inputs[i], batch.targets["label"][i], float(batch.weights[i]))
            if row.weight:
                assert position not in rows or not rows[position].weight, f"clip {position} comes twice"
            if row.weight or position not in rows:
                rows[position] = row
    return rows


# --- batches --------------------------------------------------------------------------------------------------------


def test_an_epoch_has_each_clip_once_in_full_batches_and_a_smaller_last_one(store: WaveformStore) -> None:
    batches = epoch_of(store)
    assert steps_per_epoch(CLIPS, RECIPE) == 3
    assert [(b.step, b.last, b.clips, tuple(b.inputs.shape)) for b in batches] == [
        (0, True, 8, (8, 1, 16, 32)),
        (1, True, 8, (8, 1, 16, 32)),
        (2, True, 4, (4, 1, 16, 32)),
    ]
    assert sorted(positions(batches)) == list(range(20)) != positions(batches)
    assert all((b.weights == 1).all() and not b.problems for b in batches)


def test_an_epoch_depends_on_seed_and_epoch_alone(store: WaveformStore) -> None:
    first = epoch_of(store, seed=3, epoch=2)
    torch.manual_seed(999)
    np.random.seed(999)
    epoch_of(store, seed=3, epoch=1)
    assert_same(epoch_of(store, seed=3, epoch=2), first)
    for seed, epoch in ((3, 1), (4, 2), (2, 3)):
        assert positions(epoch_of(store, seed=seed, epoch=epoch)) != positions(first)


def test_clips_that_are_not_mixed_are_as_without_mixup(uneven: ClipIndex) -> None:
    store = load_waveforms(uneven, SPEC, whole=True)
    mixed, unmixed = (by_position(epoch_of(store, replace(EVERYTHING, mixup=p))) for p in (0.5, 0.0))
    unchanged = {p for p in mixed if torch.equal(mixed[p].inputs, unmixed[p].inputs)}
    assert 4 <= len(unchanged) <= 16
    assert all(mixed[p].target.max() == 1 for p in unchanged)
    # One or two of the others may be mixed with another crop of themselves.
    assert sum(float(mixed[p].target.max()) == 1 for p in mixed.keys() - unchanged) <= 2


def test_partners_are_drawn_from_all_clips(uneven: ClipIndex) -> None:
    store = load_waveforms(uneven, SPEC)
    partners = set()
    for epoch in range(6):
        for position, row in by_position(epoch_of(store, replace(PLAIN, mixup=1.0), epoch=epoch)).items():
            partners |= set(torch.nonzero(row.target).flatten().tolist()) - {position}
    assert partners == set(range(CLIPS))


def test_loading_leaves_the_global_generator_alone(store: WaveformStore) -> None:
    """Drop path draws from it."""
    before = torch.get_rng_state()
    epoch_of(store, EVERYTHING)
    list(evaluation_batches(store, 8, "cpu"))
    assert torch.equal(torch.get_rng_state(), before)


def test_training_without_augmentation_has_the_inputs_of_evaluation(store: WaveformStore) -> None:
    evaluated = torch.cat([batch.inputs for batch in evaluation_batches(store, 7, "cpu")])
    for batch in epoch_of(store, PLAIN):
        assert torch.equal(batch.inputs, evaluated[torch.from_numpy(batch.positions)])


@pytest.mark.parametrize(
    "recipe",
    [replace(PLAIN, mixup=0.9), replace(PLAIN, freq_mask=8), replace(PLAIN, time_mask=8)],
    ids=["mixup", "freq_mask", "time_mask"],
)
def test_every_augmentation_of_the_recipe_is_applied(store: WaveformStore, recipe: Recipe) -> None:
    augmented, plain = epoch_of(store, recipe), epoch_of(store, PLAIN)
    assert positions(augmented) == positions(plain)
    assert not any(torch.equal(a.inputs, b.inputs) for a, b in zip(augmented, plain, strict=True))


def test_evaluation_takes_every_clip_once_in_order_whatever_the_batch(store: WaveformStore) -> None:
    whole = next(evaluation_batches(store, CLIPS, "cpu")).inputs
    for size in (1, 8, 64):
        batches = list(evaluation_batches(store, size, "cpu"))
        assert positions(batches) == list(range(CLIPS))
        assert torch.equal(torch.cat([batch.inputs for batch in batches]), whole)
        assert all((batch.crops == 1).all() and not batch.problems for batch in batches)


# --- wherever the waveforms come from ---------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [EVERYTHING, replace(EVERYTHING, sampler="balanced")], ids=["shuffle", "balanced"])
def test_an_epoch_is_the_same_from_memory_and_from_files(uneven: ClipIndex, recipe: Recipe) -> None:
    memory, files = load_waveforms(uneven, SPEC, whole=True), stream_waveforms(uneven, SPEC)
    assert isinstance(memory.waveforms, DecodedWaveforms) and isinstance(files.waveforms, FileWaveforms)
    assert_same(epoch_of(memory, recipe, seed=1, epoch=2), epoch_of(files, recipe, seed=1, epoch=2))


def test_the_first_seconds_are_the_same_from_clips_kept_whole_or_cut(uneven: ClipIndex) -> None:
    whole, cut = load_waveforms(uneven, SPEC, whole=True), load_waveforms(uneven, SPEC)
    assert (longest(whole), longest(cut)) == (2.5 * RATE, SPEC.samples)
    assert_same(epoch_of(whole), epoch_of(cut))


@pytest.mark.parametrize("share", [RankShare(), RankShare(1, 3, micro_batch=2)], ids=["alone", "shared"])
def test_workers_change_nothing(uneven: ClipIndex, share: RankShare) -> None:
    files = stream_waveforms(uneven, SPEC)
    ahead = epoch_of(files, EVERYTHING, share=share, workers=2)
    assert_same(epoch_of(files, EVERYTHING, share=share), ahead)
    assert all(isinstance(batch.positions, np.ndarray) for batch in ahead)


@pytest.mark.parametrize("batch_size", [1, 6, 64])
def test_threads_change_nothing_in_evaluation(uneven: ClipIndex, batch_size: int) -> None:
    files = stream_waveforms(uneven, SPEC)
    alone, ahead = (list(evaluation_batches(files, batch_size, "cpu", crops=3, threads=n)) for n in (0, 3))
    for a, b in zip(alone, ahead, strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert (a.positions == b.positions).all() and (a.crops == b.crops).all()


def test_an_epoch_is_nearly_the_same_on_a_gpu(uneven: ClipIndex) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    store = stream_waveforms(uneven, SPEC)
    for workers in (0, 2):
        batches = list(training_batches(store, EVERYTHING, EpochPart(seed=0, epoch=0), "cuda", workers))
        for ours, theirs in zip(batches, epoch_of(store, EVERYTHING), strict=True):
            assert ours.inputs.is_cuda and ours.weights.is_cuda and ours.targets["label"].is_cuda
            torch.testing.assert_close(ours.inputs.cpu(), theirs.inputs, atol=5e-3, rtol=0)


@pytest.mark.parametrize("share", [RankShare(), RankShare(1, 2), RankShare(2, 3, micro_batch=1)], ids=["1", "2", "3"])
@pytest.mark.parametrize("first_step", [1, 2, 3])
def test_an_interrupted_epoch_is_resumed_at_its_step(uneven: ClipIndex, share: RankShare, first_step: int) -> None:
    store = load_waveforms(uneven, SPEC, whole=True)
    missed = [batch for batch in epoch_of(store, EVERYTHING, share=share) if batch.step >= first_step]
    assert_same(epoch_of(store, EVERYTHING, share=share, first_step=first_step), missed)


# --- however many processes -------------------------------------------------------------------------------------------

BATCH_SIZES = (3, 7, 8, 32)  # of 20 clips: last batches of 2, 6, 4 and 20


@pytest.mark.parametrize("total", [0, 1, 4, 7, 20])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 8])
def test_shares_cover_each_item_once_and_evenly(total: int, world_size: int) -> None:
    shares = [RankShare(rank, world_size).of(total) for rank in range(world_size)]
    assert [i for share in shares for i in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("micro_batch", [None, 1, 2, 3, 100])
@pytest.mark.parametrize("total", [1, 2, 8, 13])
def test_micro_batches_partition_a_share(total: int, micro_batch: int | None) -> None:
    for rank in range(3):
        share = RankShare(rank, 3, micro_batch)
        pieces = share.micro_batches(total)
        assert [i for piece in pieces for i in piece] == list(share.of(total))
        assert max(map(len, pieces)) <= (micro_batch or total)
        assert all(pieces) or pieces == [range(0)]
        assert len({len(piece) for piece in pieces[:-1]}) <= 1


@pytest.mark.parametrize("values", [(2, 2), (-1, 2), (0, 0), (0, 1, 0), (0, 1, -1)])
def test_a_rank_outside_the_world_is_an_error(values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"rank < world_size|micro_batch"):
        RankShare(*values)


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_processes_share_an_epoch_each_clip_once(uneven: ClipIndex, world_size: int, batch_size: int) -> None:
    store, recipe = load_waveforms(uneven, SPEC, whole=True), replace(EVERYTHING, batch_size=batch_size)
    alone = epoch_of(store, recipe)
    ranks = [epoch_of(store, recipe, share=RankShare(rank, world_size)) for rank in range(world_size)]
    for batches in ranks:
        assert [(b.step, b.last, b.clips) for b in batches] == [(b.step, True, len(b.positions)) for b in alone]
    for pieces in zip(*ranks, strict=True):  # of one step
        counted = [int(p) for b in pieces for p, w in zip(b.positions, b.weights, strict=True) if w]
        assert counted == alone[pieces[0].step].positions.tolist()
        for rank, piece in enumerate(pieces):
            if RankShare(rank, world_size).of(piece.clips):
                assert (piece.weights == 1).all()
            else:
                assert piece.weights.tolist() == [0] and piece.inputs.shape == (1, 1, 16, 32)
    ours, theirs = by_position([batch for batches in ranks for batch in batches]), by_position(alone)
    assert sorted(ours) == sorted(theirs) == list(range(CLIPS))
    for position, row in ours.items():
        assert row.weight == 1
        torch.testing.assert_close(row.inputs, theirs[position].inputs, atol=1e-3, rtol=0)
        torch.testing.assert_close(row.target, theirs[position].target)


@pytest.mark.parametrize("micro_batch", [1, 3, 5])
@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_micro_batches_make_up_the_step_and_the_last_one_is_marked(
    uneven: ClipIndex, world_size: int, micro_batch: int
) -> None:
    store = load_waveforms(uneven, SPEC, whole=True)
    for rank in range(world_size):
        whole = epoch_of(store, EVERYTHING, share=RankShare(rank, world_size))
        pieces = epoch_of(store, EVERYTHING, share=RankShare(rank, world_size, micro_batch))
        assert positions(pieces) == positions(whole)
        assert torch.equal(torch.cat([b.weights for b in pieces]), torch.cat([b.weights for b in whole]))
        ours, theirs = torch.cat([b.inputs for b in pieces]), torch.cat([b.inputs for b in whole])
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
        assert [b.step for b in pieces if b.last] == [0, 1, 2]
        assert pieces[-1].last and all(b.last == (after.step > b.step) for b, after in pairwise(pieces))
        assert {(b.step, b.clips) for b in pieces} == {(0, 8), (1, 8), (2, 4)}
        assert max(len(b.positions) for b in pieces) <= micro_batch


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 23])
def test_processes_share_an_evaluation_each_clip_once(uneven: ClipIndex, world_size: int) -> None:
    store = load_waveforms(uneven, SPEC, whole=True)
    (alone,) = evaluation_batches(store, CLIPS, "cpu", crops=3)
    batches = [
        batch
        for rank in range(world_size)
        for batch in evaluation_batches(store, 3, "cpu", crops=3, share=RankShare(rank, world_size))
    ]
    assert positions(batches) == list(range(CLIPS))
    assert np.concatenate([b.crops for b in batches]).tolist() == alone.crops.tolist()
    assert torch.equal(torch.cat([b.inputs for b in batches]), alone.inputs)


# --- crops ------------------------------------------------------------------------------------------------------------

CROP_SPEC = AudioSpec(mels=16, frames=96, mean=-6.6, std=5.4)  # 0.975 s in frames of 10 ms
ROOM = CROP_SPEC.samples // 2  # how much longer a clip of `burst_store` is
FRAME = 160  # samples between frames; the place of a burst is known to half of it
WINDOW = 400
BURST_AT = 72 * FRAME  # within every crop
BURST_HZ = (500.0, 5000.0)


def burst_store(clips: int, samples: int = CROP_SPEC.samples + ROOM) -> WaveformStore:
    """Clips of one and a half inputs with a burst at BURST_AT: low in even clips, high in odd ones."""
    time_s = np.arange(WINDOW) / RATE
    waveforms = [np.zeros(samples, np.float32) for _ in range(clips)]
    for i, waveform in enumerate(waveforms):
        burst = np.hanning(WINDOW) * np.sin(2 * np.pi * BURST_HZ[i % 2] * time_s)
        waveform[BURST_AT : BURST_AT + WINDOW] = burst[: samples - BURST_AT]
    return WaveformStore(make_index([[i] for i in range(clips)]), CROP_SPEC, DecodedWaveforms(waveforms), ())


def make_index(labels: list[list[int]], heads: tuple[str, ...] = ("label",)) -> ClipIndex:
    """Clips without files."""
    n, names = len(labels), tuple(map(str, range(1 + max(map(max, labels)))))
    return ClipIndex(
        dataset="made",
        classes=dict.fromkeys(heads, names),
        multilabel=False,
        root=Path("made"),
        clip_ids=Strings.of([f"clip {i}" for i in range(n)]),
        paths=Strings.of([f"{i}.wav" for i in range(n)]),
        splits=Strings.of(["train"] * n),
        start=np.full(n, np.nan),
        stop=np.full(n, np.nan),
        labels={head: Labels.from_rows(labels) for head in heads},
    )


def start_of(log_mels: torch.Tensor, position: int) -> int:
    """Where a crop (1, mels, frames) of clip `position` starts, in samples, by the place of its burst."""
    half = log_mels[0, 8:] if position % 2 else log_mels[0, :8]
    return BURST_AT - FRAME * int(half.amax(dim=0).argmax())


def starts_of(batches: list[Batch]) -> list[int]:
    """By position of the clips."""
    starts = {int(p): start_of(row, int(p)) for b in batches for p, row in zip(b.positions, b.inputs, strict=True)}
    return [starts[position] for position in sorted(starts)]


def test_random_crops_start_anywhere_in_the_clip() -> None:
    starts = starts_of(epoch_of(burst_store(400), replace(PLAIN, crop="random", batch_size=50)))
    assert len(starts) == 400 and -FRAME <= min(starts) < ROOM / 20 and ROOM * 0.95 < max(starts) <= ROOM + FRAME
    assert np.mean(starts) == pytest.approx(ROOM / 2, rel=0.1)


def test_random_crops_differ_between_clips_epochs_and_seeds() -> None:
    store, recipe = burst_store(8), replace(PLAIN, crop="random")
    starts = [starts_of(epoch_of(store, recipe, *draw)) for draw in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert len(set(starts[0])) > 4
    assert starts[0] == starts[3] and starts[0] != starts[1] != starts[2] != starts[0]


def test_the_first_seconds_are_taken_where_the_recipe_asks_for_them() -> None:
    assert starts_of(epoch_of(burst_store(8), PLAIN)) == [0] * 8


def test_every_crop_is_possible_in_a_slightly_longer_clip() -> None:
    samples = np.random.default_rng(0).standard_normal(CROP_SPEC.samples + 2).astype(np.float32)
    store = replace(burst_store(60), waveforms=DecodedWaveforms([samples] * 60))
    crops = [DecodedWaveforms([samples[i : i + CROP_SPEC.samples]]) for i in range(3)]
    expected = [next(evaluation_batches(replace(store, waveforms=crop), 1, "cpu")).inputs for crop in crops]
    inputs = torch.cat([batch.inputs for batch in epoch_of(store, replace(PLAIN, crop="random", batch_size=1))])
    matches = [[torch.equal(row[None], crop) for crop in expected] for row in inputs]
    assert all(sum(row) == 1 for row in matches)
    assert np.any(matches, axis=0).all()


def test_short_clips_are_taken_whole() -> None:
    store = burst_store(4, samples=BURST_AT + WINDOW)
    assert_same(epoch_of(store, replace(PLAIN, crop="random")), epoch_of(store, PLAIN))


def test_partners_are_cropped_too_and_elsewhere() -> None:
    """A low and a high burst are told apart in a mixture."""
    store, recipe = burst_store(2), replace(PLAIN, crop="random", mixup=1.0)
    starts: list[tuple[int, int]] = []
    for epoch in range(40):
        (batch,) = epoch_of(store, recipe, epoch=epoch)
        for position, target, row in zip(batch.positions, batch.targets["label"], batch.inputs, strict=True):
            if target.max() < 1:  # not mixed with itself
                starts.append((start_of(row, position), start_of(row, 1 - position)))
    for column in zip(*starts, strict=True):
        assert len(set(column)) > 8 and min(column) >= -FRAME and max(column) <= ROOM + FRAME
    assert sum(abs(clip - partner) <= FRAME for clip, partner in starts) < len(starts) / 3


@pytest.mark.parametrize(
    ("crops", "expected"), [(1, [0]), (2, [0, ROOM]), (3, [0, ROOM // 2, ROOM]), (5, [ROOM * i // 4 for i in range(5)])]
)
def test_test_crops_are_evenly_spaced_from_first_to_last(crops: int, expected: list[int]) -> None:
    batches = list(evaluation_batches(burst_store(3), 2, "cpu", crops=crops))
    assert [batch.crops.tolist() for batch in batches] == [[crops] * 2, [crops]]
    assert [len(batch.inputs) for batch in batches] == [2 * crops, crops]
    starts = [start_of(row, i // crops) for i, row in enumerate(torch.cat([batch.inputs for batch in batches]))]
    assert starts == pytest.approx(expected * 3, abs=FRAME)


def test_a_test_clip_that_fits_has_one_crop(uneven: ClipIndex) -> None:
    store = load_waveforms(uneven, SPEC, whole=True)
    (one,), (three,) = (list(evaluation_batches(store, CLIPS, "cpu", crops=n)) for n in (1, 3))
    long = [len(store.waveforms[i]) > SPEC.samples for i in range(CLIPS)]
    assert three.crops.tolist() == [3 if is_long else 1 for is_long in long] and any(long) and not all(long)
    firsts = np.concatenate([[0], np.cumsum(three.crops)[:-1]])
    assert torch.equal(three.inputs[firsts], one.inputs)


# --- balanced sampling ------------------------------------------------------------------------------------------------


def test_a_balanced_epoch_draws_as_many_clips_with_asts_weights() -> None:
    index = make_index([[0]] * 380 + [[1]] * 20)
    shuffled = epoch_order(index, PLAIN, 0, 0)
    assert sorted(shuffled) == list(range(400))
    balanced = [epoch_order(index, replace(PLAIN, sampler="balanced"), 0, epoch) for epoch in range(20)]
    assert all(len(order) == 400 for order in balanced)
    rare = np.mean([(order >= 380).mean() for order in balanced])  # 0.05 with "shuffle"
    assert rare == pytest.approx(0.5, abs=0.03)
    assert balanced[0].tolist() != balanced[1].tolist()
    assert balanced[0].tolist() == epoch_order(index, replace(PLAIN, sampler="balanced"), 0, 0).tolist()


def test_processes_share_a_balanced_epoch() -> None:
    store, recipe = burst_store(21), replace(PLAIN, sampler="balanced")
    alone = epoch_of(store, recipe, seed=3)
    assert positions(alone) == epoch_order(store.index, recipe, 3, 0).tolist() and len(positions(alone)) == 21
    assert len(set(positions(alone))) < 21  # some come twice
    ranks = [epoch_of(store, recipe, seed=3, share=RankShare(rank, 2)) for rank in range(2)]
    assert [p for pieces in zip(*ranks, strict=True) for b in pieces for p in b.positions] == positions(alone)


def test_clips_of_two_heads_cannot_be_balanced() -> None:
    index = make_index([[0], [1]], heads=("verb", "noun"))
    store = WaveformStore(index, SPEC, DecodedWaveforms([np.zeros(400, np.float32)] * 2), ())
    with pytest.raises(InputError, match="sampler 'balanced' needs one head") as error:
        epoch_of(store, replace(PLAIN, sampler="balanced"))
    assert "\n" not in str(error.value)
    assert set(epoch_of(store, PLAIN)[0].targets) == {"verb", "noun"}


# --- files that turn out to be broken while they are streamed ---------------------------------------------------------

BROKEN = 7


@pytest.fixture
def damaged(uneven: ClipIndex, tmp_path: Path) -> Callable[..., WaveformStore]:
    """A streaming store of the same clips, those at the given positions emptied."""

    def damage(*broken: int) -> WaveformStore:
        root = tmp_path / "damaged"
        (root / "audio").mkdir(parents=True)
        for i in range(CLIPS):
            data = b"" if i in broken else uneven.clip(i).path.read_bytes()
            (root / str(uneven.paths[i])).write_bytes(data)
        return stream_waveforms(replace(uneven, root=root), SPEC)

    return damage


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_clip_has_weight_0_and_changes_no_other(
    uneven: ClipIndex, damaged: Callable[..., WaveformStore], workers: int
) -> None:
    recipe = replace(EVERYTHING, mixup=0.0)
    sound = by_position(epoch_of(stream_waveforms(uneven, SPEC), recipe))
    batches = epoch_of(damaged(BROKEN), recipe, workers=workers)
    (problem,) = [problem for batch in batches for problem in batch.problems]
    assert (problem.clip_id, problem.reason, problem.fatal) == (str(uneven.clip_ids[BROKEN]), "zero-byte", True)
    assert "\n" not in problem.message and Path(str(uneven.paths[BROKEN])).name in problem.message
    assert [batch.clips for batch in batches] == [8, 8, 4]
    rows = by_position(batches)
    assert [p for p in range(CLIPS) if not rows[p].weight] == [BROKEN]
    assert rows[BROKEN].inputs.isfinite().all()
    assert all(torch.equal(rows[p].inputs, sound[p].inputs) for p in range(CLIPS) if p != BROKEN)


def test_a_clip_whose_partner_is_broken_is_left_unmixed(
    uneven: ClipIndex, damaged: Callable[..., WaveformStore]
) -> None:
    recipe = replace(EVERYTHING, mixup=1.0)
    files, broken = stream_waveforms(uneven, SPEC), damaged(BROKEN)
    bereft = 0
    for epoch in range(6):
        sound = by_position(epoch_of(files, recipe, epoch=epoch))
        unmixed = by_position(epoch_of(files, replace(recipe, mixup=0.0), epoch=epoch))
        batches = epoch_of(broken, recipe, epoch=epoch)
        rows = by_position(batches)
        assert {problem.clip_id for batch in batches for problem in batch.problems} == {str(uneven.clip_ids[BROKEN])}
        for p in set(range(CLIPS)) - {BROKEN}:
            assert rows[p].weight == 1
            if sound[p].target[BROKEN] > 0:
                bereft += 1
                assert rows[p].target.tolist() == uneven.targets("label", np.array([p]))[0].tolist()
                assert torch.equal(rows[p].inputs, unmixed[p].inputs)
            else:
                assert torch.equal(rows[p].target, sound[p].target)
                torch.testing.assert_close(rows[p].inputs, sound[p].inputs, atol=1e-3, rtol=0)
    assert bereft > 1


@pytest.mark.parametrize("threads", [0, 2])
def test_evaluation_leaves_a_broken_clip_out_with_its_problem(
    uneven: ClipIndex, damaged: Callable[..., WaveformStore], threads: int
) -> None:
    (sound,) = evaluation_batches(stream_waveforms(uneven, SPEC), CLIPS, "cpu", crops=2)
    batches = list(evaluation_batches(damaged(BROKEN), 4, "cpu", crops=2, threads=threads))
    kept = [p for p in range(CLIPS) if p != BROKEN]
    assert positions(batches) == kept
    assert [problem.clip_id for batch in batches for problem in batch.problems] == [str(uneven.clip_ids[BROKEN])]
    assert batches[BROKEN // 4].problems and len(batches[BROKEN // 4].positions) == 3
    rows = np.repeat(np.arange(CLIPS), sound.crops) != BROKEN
    assert torch.equal(torch.cat([b.inputs for b in batches]), sound.inputs[torch.from_numpy(rows)])
    assert np.concatenate([b.crops for b in batches]).tolist() == sound.crops[kept].tolist()


def test_batches_of_broken_clips_are_no_error_but_an_epoch_of_them_is(damaged: Callable[..., WaveformStore]) -> None:
    store = damaged(*range(CLIPS))
    batches = list(evaluation_batches(store, 8, "cpu"))
    assert [batch.inputs.shape for batch in batches] == [(0, 1, 16, 32)] * 3
    assert [len(batch.problems) for batch in batches] == [8, 8, 4] and positions(batches) == []
    epoch = training_batches(store, EVERYTHING, EpochPart(seed=0, epoch=0), "cpu")
    for batch in (next(epoch) for _ in range(3)):
        assert not batch.weights.any() and batch.inputs.isfinite().all()
    with pytest.raises(InputError, match="none of the 20 training clips can be used"):
        next(epoch)


def test_batches_hold_their_crops_and_not_the_recordings() -> None:
    """Recordings of 40 inputs: one at a time fits below the bound, a batch of eight does not."""
    samples = 40 * SPEC.samples

    class Recordings(DecodedWaveforms):
        def __getitem__(self, position):  # type: ignore[no-untyped-def, override]
            return np.zeros(samples, np.float32)

    store = WaveformStore(make_index([[i] for i in range(8)]), SPEC, Recordings([np.zeros(1)] * 8), ())
    for batches in (
        lambda: epoch_of(store, replace(PLAIN, crop="random")),
        lambda: list(evaluation_batches(store, 8, "cpu")),
    ):
        tracemalloc.start()
        batches()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * 4 * samples
