"""`--compile`: one graph per mode, and the numbers of the plain model. A CPU checks it without generating code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from make_runs import RECIPE, make_model, make_store, run
from torch import Tensor

from models import SpectrogramTransformer, create_model
from reproduce.efficiency.compilation import compile_model
from reproduce.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Compile by aot_eager, which traces forward and backward and runs torch's own kernels; collects every graph."""
    compiled: list[str] = []
    trace, compile = torch._dynamo.lookup_backend("aot_eager"), torch.compile
    torch._dynamo.reset()

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        compiled.append(str(inputs[0].shape))
        return trace(graph, inputs)

    def compile_traced(function: Callable[..., Any], *, mode: str, **options: Any) -> Callable[..., Any]:
        return compile(function, backend=backend, **options)

    monkeypatch.setattr(torch, "compile", compile_traced)
    return compiled


def outputs_and_gradients(model: SpectrogramTransformer, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    logits = model.train()(x)
    logits.square().sum().backward()
    return [logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("by_onednn", [False, True])
@pytest.mark.parametrize(("name", "config"), [("ast_debug", {"depth": 1}), ("mast_debug", {"depths": (1, 1, 1, 1)})])
def test_training_and_evaluation_are_one_graph_each_and_give_the_plain_models_numbers(
    name: str, config: dict[str, Any], by_onednn: bool, graphs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("linear.LEAST_MACS", "linear.LEAST_INPUTS", "ast_model.LEAST_HEAD_MACS"):
        monkeypatch.setattr(f"models.{limit}", 1)
    monkeypatch.setattr("models.linear.ONEDNN_FLOAT32", by_onednn)
    torch.manual_seed(0)
    model = create_model(name, num_classes=5, input_size=(32, 64), **config)
    whole = torch.randn(3, 1, 32, 64)
    expected = [outputs_and_gradients(model, x) for x in (whole, whole[:2])]
    names = list(model.state_dict())
    compile_model(model, "cpu")
    for x, numbers in zip((whole, whole[:2]), expected, strict=True):  # the last batch of an epoch is smaller
        for ours, plain in zip(outputs_and_gradients(model, x), numbers, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    assert len(graphs) == 1
    with torch.inference_mode():
        logits = [model.eval()(x) for x in (whole, whole[:2])]
    assert len(graphs) == 2
    torch.testing.assert_close(logits[0][:2], logits[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[0], expected[0][0], rtol=1e-4, atol=1e-5)
    assert list(model.state_dict()) == names


def test_a_compiled_run_trains_as_a_plain_one_and_its_record_says_so(tmp_path: Path, graphs: list[str]) -> None:
    store, recipe = make_store(tmp_path / "data", 8, 4), replace(RECIPE, epochs=1)
    records = [
        run(store, tmp_path / str(compiled), "ast_debug", recipe, compile=compiled) for compiled in (False, True)
    ]
    assert graphs
    assert [record.environment["compile"] for record in records] == [False, True]
    assert records[0].key == records[1].key
    assert records[1].metrics["train_loss"] == pytest.approx(records[0].metrics["train_loss"], rel=1e-4)


def test_a_cpu_without_a_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError, match="--compile needs a C\\+\\+ compiler on a CPU") as error:
        compile_model(make_model("ast_debug"), "cpu")
    assert "\n" not in str(error.value)
