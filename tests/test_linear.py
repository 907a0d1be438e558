"""Products with a Linear's weights by a convolution agree with torch's, and leave every layer's own code in force."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import create_model, linear
from models.complexity import count_with_libraries

CPUINFO = Path("/proc/cpuinfo")


@pytest.fixture(params=[False, True], ids=["torch", "convolution"])
def by_convolution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether float32 products go through a convolution, whatever this CPU prefers."""
    monkeypatch.setattr(linear, "ONEDNN_FLOAT32", request.param)
    monkeypatch.setattr(linear, "LEAST_MACS", 1)
    return bool(request.param)


def gradients(y: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y, inputs, torch.linspace(-1, 1, y.numel()).view_as(y))


@pytest.mark.usefixtures("by_convolution")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("part", [None, slice(5, 11)])
@pytest.mark.parametrize("shape", [(4, 300, 24), (1, 600, 24), (700, 24), (2, 24), (0, 300, 24)])
def test_agrees_with_the_plain_product_and_its_gradients(
    shape: tuple[int, ...], part: slice | None, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 16, bias=bias)
    x = torch.randn(shape, requires_grad=True)
    weight, offset = layer.weight[part or slice(None)], layer.bias[part or slice(None)] if bias else None
    expected = F.linear(x.double(), weight.double(), None if offset is None else offset.double())
    y = linear.linear(layer, x, part)
    assert y.is_contiguous() and y.dtype == torch.float32
    torch.testing.assert_close(y, expected.float(), rtol=1e-5, atol=1e-5)
    parameters = (x, *layer.parameters())
    for ours, exact in zip(gradients(y, *parameters), gradients(expected, *parameters), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(linear.linear(layer, x, part), expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("by_convolution")
def test_takes_tokens_that_are_not_contiguous() -> None:
    layer, x = nn.Linear(24, 16), torch.randn(3, 24, 400).transpose(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(linear.linear(layer, x), layer(x))


@pytest.mark.usefixtures("by_convolution")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_torch_s_own(dtype: torch.dtype) -> None:
    layer, x = nn.Linear(24, 16, dtype=dtype), torch.randn(1, 600, 24, dtype=dtype)
    assert torch.equal(linear.linear(layer, x), layer(x))
    wide, y = nn.Linear(24, 16), torch.randn(1, 600, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(linear.linear(wide, y), wide(y))


@pytest.mark.usefixtures("by_convolution")
def test_hooks_and_layers_of_other_classes_are_called() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    x, seen = torch.randn(1, 600, 24), []
    doubled, hooked = Doubled(24, 16), nn.Linear(24, 16)
    assert torch.equal(linear.linear(doubled, x), doubled(x))
    hooked.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    assert linear.linear(hooked, x) is seen[0]


@pytest.mark.usefixtures("by_convolution")
def test_an_exported_program_takes_any_batch() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(24, 16)

        def forward(self, x: Tensor) -> Tensor:
            return linear.linear(self.layer, x)

    module = Layer().eval()
    with torch.no_grad():
        program = torch.export.export(module, (torch.randn(3, 200, 24),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
        for batch in (1, 2, 40):
            x = torch.randn(batch, 200, 24)
            torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_models_agree_and_count_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = create_model(name, input_size=(128, 256)).eval()
    x, logits, counts = torch.randn(4, 1, 128, 256), [], []
    for by_convolution in (False, True):
        monkeypatch.setattr(linear, "ONEDNN_FLOAT32", by_convolution)
        monkeypatch.setattr(linear, "LEAST_MACS", 1)
        with torch.inference_mode():
            logits.append(model(x))
        counts.append(count_with_libraries(model))
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)
    assert counts[0] == counts[1]


@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="this torch cannot tell one CPU from another")
@pytest.mark.skipif(not CPUINFO.is_file(), reason="needs Linux's /proc/cpuinfo")
def test_the_convolution_is_for_amd_s_processors_with_units_of_512_bits() -> None:
    words = set(CPUINFO.read_text().split())
    assert ({"AuthenticAMD", "avx512f", "avx_vnni"} <= words) == linear.ONEDNN_FLOAT32
