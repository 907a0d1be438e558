"""Both models on a GPU, against themselves on the CPU. Without a GPU every test here skips."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from make_models import make_input, make_model
from make_runs import make_uneven_folder
from torch import Tensor
from torch._dynamo.utils import counters

from models import SpectrogramTransformer
from reproduce.efficiency.compilation import compile_model
from reproduce.environment import computing_in, with_weights_in
from reproduce.records.runs import TrainedRun
from reproduce.records.store import load_records

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

ROOT = Path(__file__).parents[1]
SIZE = (64, 128)
NAMES = ("ast_debug", "mast_debug", "ast_tiny", "mast_tiny")
PATHS = [
    (name, path)
    for name, paths in {
        "ast_debug": ("reference", "sdpa"),
        "mast_debug": ("reference", "sdpa", "folded", "chunked"),
        "mast_tiny": ("auto", "flex"),
    }.items()
    for path in paths
]


def model_of(name: str) -> Any:
    return make_model(name, num_classes=7, input_size=SIZE)


def outputs_and_gradients(model: SpectrogramTransformer, x: Tensor) -> dict[str, Tensor]:
    """Logits and the gradient of every parameter, on the CPU."""
    model.zero_grad()
    logits = model.train()(x)
    logits.square().mean().backward()
    gradients = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach().cpu(), **gradients}


def assert_near(ours: Mapping[str, Tensor], expected: Mapping[str, Tensor], bound: float) -> None:
    assert ours.keys() == expected.keys()
    largest = max(float(reference.norm()) for reference in expected.values())
    for key, reference in expected.items():
        # Some gradients are 0 but for rounding: those of the keys' biases, which softmax cancels.
        assert float((ours[key] - reference).norm()) < bound * float(reference.norm()) + 1e-5 * largest, key


def relative_error(ours: Tensor, reference: Tensor) -> float:
    return float((ours.double() - reference.double()).norm() / reference.double().norm().clamp(min=1e-12))


@pytest.mark.parametrize(("name", "path"), PATHS)
def test_every_path_gives_the_cpus_logits_and_gradients(name: str, path: str) -> None:
    model, x = model_of(name), make_input(size=SIZE)
    expected = outputs_and_gradients(model.set_attention("reference"), x)
    model = model_of(name).cuda().set_attention(path)
    with computing_in("float32", "cuda"):
        ours = outputs_and_gradients(model, x.cuda())
    assert_near(ours, expected, 2e-3)


@pytest.mark.parametrize("name", ["ast_tiny", "mast_tiny"])
def test_a_training_step_in_bfloat16_has_the_gradients_of_float32(name: str) -> None:
    """By the path that bfloat16 takes: "folded" in MAST."""
    model, x = model_of(name).cuda(), make_input(4, size=SIZE).cuda()
    with computing_in("float32", "cuda"):
        expected = outputs_and_gradients(model, x)
    with computing_in("bfloat16", "cuda"):
        assert model.attention == ("folded" if name == "mast_tiny" else "sdpa")
        ours = outputs_and_gradients(model, x)
    assert_near(ours, expected, 0.2)


@pytest.mark.parametrize(("precision", "bound"), [("bfloat16", 5e-2), ("float16", 1e-2)])
@pytest.mark.parametrize("name", NAMES)
def test_narrow_products_stay_near_float32(name: str, precision: str, bound: float) -> None:
    model, x = model_of(name).cuda(), make_input(4, size=SIZE).cuda()
    with torch.inference_mode():
        with computing_in("float32", "cuda"):
            reference = model(x)
        narrow = with_weights_in(precision, model)
        with computing_in(precision, "cuda"):
            by_autocast, by_weights = model(x), narrow(x)
    assert by_autocast.dtype == reference.dtype == torch.float32
    assert relative_error(by_autocast, reference) < bound
    assert torch.equal(by_autocast, by_weights)


def steps_of(model: Any, batches: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    return [outputs_and_gradients(model, x) for x in batches]


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_a_captured_graph_gives_the_plain_models_numbers_for_every_batch(name: str) -> None:
    """Four batches: the graph is captured in the second and third, and replayed in the fourth, a smaller one."""
    torch._dynamo.reset()
    counters.clear()
    model = model_of(name).cuda()
    generator = torch.Generator().manual_seed(2)
    batches = [torch.randn(clips, 1, *SIZE, generator=generator).cuda() for clips in (3, 3, 3, 2)]
    with computing_in("float32", "cuda"):
        expected = steps_of(model, batches)
        with torch.inference_mode():
            logits = [model.eval()(x) for x in batches]
        compile_model(model, "cuda")
        ours = steps_of(model, batches)
        with torch.inference_mode():
            compiled = [model.eval()(x) for x in batches]
    assert counters["stats"]["unique_graphs"] == 2 and not counters["inductor"]["cudagraph_skips"]
    for step, reference in zip(ours, expected, strict=True):
        assert_near(step, reference, 2e-3)
    for a, b in zip(compiled, logits, strict=True):
        assert relative_error(a, b) < 1e-3


def test_a_run_on_a_gpu_ends_near_the_cpus(tmp_path: Path) -> None:
    """In processes of their own: Accelerate takes one device per process."""
    data = make_uneven_folder(tmp_path / "data", 24, 12)
    rows: dict[str, tuple[TrainedRun, ...]] = {}
    for device in ("cpu", "cuda"):
        records, runs = tmp_path / device / "records", tmp_path / device / "runs"
        options = ["--preset", "debug", "--device", device, "--records", str(records), "--runs", str(runs)]
        command = [sys.executable, "-m", "reproduce", "esc50", "--data", f"esc50={data}", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        rows[device] = load_records(records).of_kind(TrainedRun)
    assert len(rows["cpu"]) == len(rows["cuda"]) == 4
    for ours, theirs in zip(rows["cuda"], rows["cpu"], strict=True):
        assert ours.key == theirs.key and ours.environment.device_type == "cuda"
        assert ours.metrics["train_loss"] == pytest.approx(theirs.metrics["train_loss"], rel=5e-2)
