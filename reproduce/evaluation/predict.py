"""Logits, embeddings and targets of a store's clips."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models import SpectrogramTransformer
from reproduce.data.batches import EvaluationBatch
from reproduce.datasets import Problem
from reproduce.datasets.index import DEFAULT_HEAD
from reproduce.errors import InputError


def as_heads(logits: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """A single-head model's logits under the name that single-head data sets use."""
    return logits if isinstance(logits, dict) else {DEFAULT_HEAD: logits}


@dataclass(frozen=True)
class Predictions:
    """Per clip, ordered by its position in the store.

    Args:
        positions: (n,) int64; clips that could not be used are not among them.
        logits: head -> (n, classes), raw; of a clip with several crops those of its mean probabilities.
        embeddings: (n, dim), mean over crops.
        seconds: the model's time alone, crops included.
        problems: clips that could not be used.
    """

    positions: np.ndarray
    logits: dict[str, np.ndarray]
    embeddings: np.ndarray
    seconds: float
    problems: tuple[Problem, ...] = ()


@torch.inference_mode()
def predict(
    model: SpectrogramTransformer,
    batches: Iterable[EvaluationBatch],
    multilabel: bool,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Predictions:
    """Logits and pooled embeddings of every clip that can be used; the first batch runs once untimed."""
    model.eval()
    logits: dict[str, list[np.ndarray]] = {}
    embeddings: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    problems: list[Problem] = []
    seconds = 0.0
    for batch in batches:
        problems += batch.problems
        if not len(batch.positions):
            continue
        with autocast():
            if not embeddings:
                model(batch.inputs)
            synchronise(batch.inputs.device)
            start = time.perf_counter()
            embedding = model.pool(model.forward_features(batch.inputs))
            outputs = as_heads(model.classify(embedding))
            synchronise(batch.inputs.device)
        seconds += time.perf_counter() - start
        for head, values in outputs.items():
            logits.setdefault(head, []).append(_mean_of_crops(values.float(), batch.crops, multilabel).cpu().numpy())
        embeddings.append(_mean_rows(embedding.float(), batch.crops).cpu().numpy())
        positions.append(batch.positions)
    if not positions:
        return Predictions(np.empty(0, np.int64), {}, np.empty((0, 0), np.float32), 0.0, tuple(problems))
    return Predictions(
        np.concatenate(positions),
        {head: np.concatenate(rows) for head, rows in logits.items()},
        np.concatenate(embeddings),
        seconds,
        tuple(problems),
    )


def _mean_of_crops(logits: Tensor, crops: np.ndarray, multilabel: bool) -> Tensor:
    """(crops, classes) to (clips, classes): the logits of the mean probabilities."""
    if (crops == 1).all():
        return logits
    if multilabel:
        means = torch.logit(_mean_rows(logits.double().sigmoid(), crops), eps=1e-12).float()
    else:
        means = _mean_rows(logits.double().softmax(dim=1), crops).clamp(min=1e-38).log().float()
    # A clip of one crop keeps its own logits, whatever clips stand beside it.
    alone = torch.from_numpy(crops == 1).to(logits.device).unsqueeze(1)
    return torch.where(alone, _mean_rows(logits, crops), means)


def _mean_rows(rows: Tensor, counts: np.ndarray) -> Tensor:
    """Consecutive `counts[i]` rows of (rows, dim) averaged, (clips, dim)."""
    if (counts == 1).all():
        return rows
    return torch.stack([part.mean(dim=0) for part in rows.split(counts.tolist())])


def merge(parts: Iterable[Predictions]) -> Predictions:
    """Those of several processes, as one process would have made them.

    Raises:
        InputError: not one clip could be used.
    """
    parts = list(parts)
    problems = tuple(problem for part in parts for problem in part.problems)
    parts = [part for part in parts if len(part.positions)]
    if not parts:
        first = f" (first: {problems[0].message})" if problems else ""
        raise InputError(f"none of the clips to predict can be used{first}")
    order = np.argsort(np.concatenate([part.positions for part in parts]), kind="stable")
    heads = parts[0].logits
    return Predictions(
        np.concatenate([part.positions for part in parts])[order],
        {head: np.concatenate([part.logits[head] for part in parts])[order] for head in heads},
        np.concatenate([part.embeddings for part in parts])[order],
        max(part.seconds for part in parts),
        problems,
    )


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished, so that a clock read next tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
