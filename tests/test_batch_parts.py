"""A batch in parts on a CPU's cores: the numbers, the threads, and one batch prepared ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from make_runs import SPEC, make_model

from models import SpectrogramTransformer
from reproduce.data.batches import EvaluationBatch
from reproduce.evaluation.batch_parts import one_ahead
from reproduce.evaluation.predict import predict

CPU = torch.device("cpu")


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads of torch, and parts of any size."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr("reproduce.evaluation.batch_parts.MIN_ELEMENTS", 1)
    yield
    torch.set_num_threads(before)


def make_batches(*sizes: int) -> list[EvaluationBatch]:
    generator = torch.Generator().manual_seed(0)
    starts = np.cumsum([0, *sizes])
    return [
        EvaluationBatch(
            torch.randn(size, 1, SPEC.mels, SPEC.frames, generator=generator),
            np.arange(start, start + size),
            np.ones(size, np.int64),
            (),
        )
        for start, size in zip(starts, sizes, strict=False)
    ]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_parts_on_several_threads_give_the_numbers_of_the_whole_batch(name: str) -> None:
    model = make_model(name).eval()
    batches = make_batches(5, 4, 1)
    seen: list[tuple[int, int, int]] = []

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append((len(inputs[0]), threading.get_ident(), torch.get_num_threads()))

    handle = model.blocks[0].register_forward_pre_hook(note)
    found = predict(model, batches, multilabel=False)
    handle.remove()
    whole = torch.cat([batch.inputs for batch in batches])
    with torch.inference_mode():
        embedding = model.pool(model.forward_features(whole))
        logits = model.classify(embedding)
    assert isinstance(logits, torch.Tensor)
    np.testing.assert_allclose(found.logits["label"], logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.embeddings, embedding.numpy(), atol=1e-5)
    assert list(found.positions) == list(range(10))
    assert sorted(rows for rows, _, _ in seen) == [1, 2, 2, 2, 3]
    here = threading.get_ident()
    assert {threads for _, thread, threads in seen if thread != here} == {1}  # torch's threads within a part
    assert [rows for rows, thread, _ in seen if thread == here] == [1]  # too small for parts
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_part_is_raised_and_the_threads_are_restored() -> None:
    model: SpectrogramTransformer = make_model("ast_debug")
    model.blocks[0].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict(model, make_batches(4), multilabel=False)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_one_batch_is_prepared_ahead_in_order_and_its_error_is_raised_in_its_turn() -> None:
    made: list[int] = []

    def batches() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            yield number
        raise OSError("the disk is gone")

    received = []
    with pytest.raises(OSError, match="the disk is gone"):
        for number in one_ahead(batches(), CPU):
            received.append(number)
            assert len(made) <= number + 2
    assert received == [0, 1, 2]


@pytest.mark.usefixtures("two_threads")
def test_a_caller_that_stops_early_leaves_no_batch_waiting() -> None:
    made: list[int] = []

    def batches() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    for number in one_ahead(batches(), CPU):
        if number == 3:
            break
    assert len(made) <= 6
