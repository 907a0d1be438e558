"""Logits and embeddings of clips by a trained model, and their scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from models import SpectrogramClassifier, SpectrogramTransformer
from reproduce.data.batches import EvaluationBatch
from reproduce.datasets import ClipIndex, Problem
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.datasets.strings import Strings
from reproduce.environment import synchronise
from reproduce.errors import InputError
from reproduce.evaluation.batch_parts import Outputs, by_parts, one_ahead
from reproduce.metrics.headline import score


def as_heads(logits: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """Logits by head; a single-head model's under the name that single-head data sets use."""
    return logits if isinstance(logits, dict) else {DEFAULT_HEAD: logits}


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions of n clips, ordered by their position in the store.

    Args:
        positions: (n,) int64; clips that could not be used are not among them.
        logits: head -> (n, classes), raw; of a clip with several crops those of its mean probabilities.
        embeddings: (n, dim), mean over crops.
        second_last: (n, dim), the same pooling of the tokens that leave the second-last block; None if not asked for.
        seconds: time of the model alone, for `timed` clips with all their crops.
        timed: clips behind `seconds`: the first batch warms up, and does not count where there are others.
        problems: clips that could not be used, and warnings about others (not fatal).
        cut: clips longer than the model's input by more than `SHORT_SECONDS`; counted where whole sounds are read.
    """

    positions: np.ndarray
    logits: dict[str, np.ndarray]
    embeddings: np.ndarray
    second_last: np.ndarray | None = None
    seconds: float = 0.0
    timed: int = 0
    problems: tuple[Problem, ...] = ()
    cut: int = 0

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def clips_per_s(self) -> float:
        """Throughput of the model alone."""
        return self.timed / self.seconds if self.seconds else 0.0


@torch.inference_mode()
def predict(
    model: SpectrogramClassifier,
    batches: Iterable[EvaluationBatch],
    multilabel: bool,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    second_last: bool = False,
) -> Predictions:
    """Predict every clip that can be used; may be none.

    Args:
        model: on the device of the batches; it is left in evaluation mode.
        batches: crops of clips, see there.
        multilabel: average the sigmoids of a clip's crops rather than their softmax.
        autocast: context of the forward pass, for its precision.
        second_last: also keep the pooled output of the second-last block, of a model with blocks.
    """
    model.eval()
    logits: dict[str, list[np.ndarray]] = {}
    embeddings: list[np.ndarray] = []
    before_last: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    problems: list[Problem] = []
    seconds: list[float] = []

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    forward = partial(_forward, model, autocast, second_last)
    with by_parts(forward, device) as forward_batch:
        for batch in one_ahead(batches, device):
            problems += batch.problems
            if not len(batch.positions):
                continue
            synchronise(batch.inputs.device)
            start = time.perf_counter()
            outputs = forward_batch(batch.inputs)
            synchronise(batch.inputs.device)
            seconds.append(time.perf_counter() - start)
            for head, values in outputs.heads.items():
                means = _mean_of_crops(values.float(), batch.crops, multilabel)
                logits.setdefault(head, []).append(means.cpu().numpy())
            embeddings.append(_mean_rows(outputs.embedding.float(), batch.crops).cpu().numpy())
            if outputs.second_last is not None:
                before_last.append(_mean_rows(outputs.second_last.float(), batch.crops).cpu().numpy())
            positions.append(batch.positions)
    first = 1 if len(seconds) > 1 else 0
    return Predictions(
        positions=np.concatenate([np.empty(0, np.int64), *positions]),
        logits={head: np.concatenate(rows) for head, rows in logits.items()},
        embeddings=np.concatenate(embeddings) if embeddings else np.empty((0, 0), np.float32),
        second_last=np.concatenate(before_last) if before_last else None,
        seconds=sum(seconds[first:]),
        timed=sum(map(len, positions[first:])),
        problems=tuple(problems),
    )


def _forward(
    model: SpectrogramClassifier,
    autocast: Callable[[], AbstractContextManager[None]],
    second_last: bool,
    inputs: Tensor,
) -> Outputs:
    """Log-mels (rows, 1, mels, frames) through the model, on any thread."""
    with torch.inference_mode(), autocast():
        before = None
        if second_last and isinstance(model, SpectrogramTransformer):  # other models may have no blocks
            tokens, block = model.forward_two_layers(inputs)
            before = model.pool(block)
        else:
            tokens = model.forward_features(inputs)
        embedding = model.pool(tokens)
        return Outputs(embedding=embedding, heads=as_heads(model.classify(embedding)), second_last=before)


def _mean_of_crops(logits: Tensor, crops: np.ndarray, multilabel: bool) -> Tensor:
    """(crops, classes) to (clips, classes): the logits of the mean probabilities."""
    if (crops == 1).all():
        return logits
    if multilabel:
        means = torch.logit(_mean_rows(logits.double().sigmoid(), crops), eps=1e-12).float()
    else:
        means = _mean_rows(logits.double().softmax(dim=1), crops).clamp(min=1e-38).log().float()
    # A clip of one crop keeps its own logits, whatever clips are in its batch.
    single = torch.from_numpy(crops == 1).to(logits.device).unsqueeze(1)
    return torch.where(single, _mean_rows(logits, crops), means)


def _mean_rows(rows: Tensor, counts: np.ndarray) -> Tensor:
    """(rows, dim) to (clips, dim): means of `counts[i]` consecutive rows."""
    if (counts == 1).all():
        return rows
    return torch.stack([part.mean(dim=0) for part in rows.split(counts.tolist())])


def merge(parts: Iterable[Predictions]) -> Predictions:
    """Join the predictions of several processes, as one process would have made them.

    Raises:
        InputError: not one clip could be used.
    """
    parts = list(parts)
    problems = tuple(problem for part in parts for problem in part.problems)
    parts = [part for part in parts if len(part)]
    if not parts:
        first = next((f" (first: {problem.message})" for problem in problems if problem.fatal), "")
        raise InputError(f"none of the clips to predict can be used{first}")
    order = np.argsort(np.concatenate([part.positions for part in parts]), kind="stable")
    heads = parts[0].logits
    blocks = [part.second_last for part in parts if part.second_last is not None]
    return Predictions(
        positions=np.concatenate([part.positions for part in parts])[order],
        logits={head: np.concatenate([part.logits[head] for part in parts])[order] for head in heads},
        embeddings=np.concatenate([part.embeddings for part in parts])[order],
        second_last=np.concatenate(blocks)[order] if len(blocks) == len(parts) else None,
        seconds=max(part.seconds for part in parts),  # they work at the same time
        timed=sum(part.timed for part in parts),
        problems=problems,
    )


def drop_not_finite(predictions: Predictions, clip_ids: Strings) -> Predictions:
    """Turn clips whose logits or embeddings are not finite into problems, so that no output holds NaN.

    Args:
        predictions: of a store's clips.
        clip_ids: of that store.
    """
    rows = [predictions.embeddings, *predictions.logits.values()]
    rows += [] if predictions.second_last is None else [predictions.second_last]
    finite = np.logical_and.reduce([np.isfinite(values).all(axis=1) for values in rows])
    if finite.all():
        return predictions
    dropped = [clip_ids[int(position)] for position in predictions.positions[~finite]]
    message = "the model's output is not finite; check the sound's samples and the model's weights"
    problems = [Problem(clip_id, "output not finite", f"{clip_id}: {message}") for clip_id in dropped]
    return replace(
        predictions,
        positions=predictions.positions[finite],
        logits={head: values[finite] for head, values in predictions.logits.items()},
        embeddings=predictions.embeddings[finite],
        second_last=None if predictions.second_last is None else predictions.second_last[finite],
        problems=(*predictions.problems, *problems),
    )


def score_predictions(predictions: Predictions, index: ClipIndex) -> dict[str, float | int]:
    """Metrics of clips by the data set's own labels, see `metrics.headline.score`."""
    targets = {head: index.targets(head, predictions.positions) for head in index.classes}
    return score(predictions.logits, targets, index.multilabel)
