"""Products with a Linear's weights by a convolution agree with torch's, and leave every layer's own code in force."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from products import gradients, operators
from torch import Tensor, nn

from models import create_model, linear
from models.complexity import count_with_libraries

CPUINFO = Path("/proc/cpuinfo")
ROWS, WIDTH, OUT = 1200, 24, 16  # more inputs than torch keeps from oneDNN


@pytest.fixture(params=[False, True], ids=["torch", "convolution"])
def by_convolution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether float32 products go through a convolution, whatever this CPU prefers."""
    monkeypatch.setattr(linear, "ONEDNN_FLOAT32", request.param)
    monkeypatch.setattr(linear, "LEAST_MACS", 1)
    return bool(request.param)


def is_convolved(layer: nn.Linear, x: Tensor) -> bool:
    return "aten::mkldnn_convolution" in operators(lambda: linear.linear(layer, x))


@pytest.mark.usefixtures("by_convolution", "threads")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("part", [None, slice(5, 11)])
@pytest.mark.parametrize("shape", [(4, 300, WIDTH), (1, ROWS, WIDTH), (ROWS, WIDTH), (2, WIDTH), (0, 300, WIDTH)])
def test_agrees_with_the_plain_product_and_its_gradients(
    shape: tuple[int, ...], part: slice | None, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(WIDTH, OUT, bias=bias)
    x = torch.randn(shape, requires_grad=True)
    weight, offset = layer.weight[part or slice(None)], layer.bias[part or slice(None)] if bias else None
    expected = F.linear(x.double(), weight.double(), None if offset is None else offset.double())
    y = linear.product(x, weight, offset) if part else linear.linear(layer, x)
    assert y.is_contiguous() and y.dtype == torch.float32
    torch.testing.assert_close(y, expected.float(), rtol=1e-5, atol=1e-5)
    parameters = (x, *layer.parameters())
    for ours, exact in zip(gradients(y, *parameters), gradients(expected, *parameters), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        y = linear.product(x, weight, offset) if part else linear.linear(layer, x)
    assert y.is_contiguous()
    torch.testing.assert_close(y, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.usefixtures("threads")
def test_onednn_computes_it_and_its_gradients_on_one_thread_too(by_convolution: bool) -> None:
    layer, x = nn.Linear(WIDTH, OUT), torch.randn(1, ROWS, WIDTH, requires_grad=True)
    assert is_convolved(layer, x) is by_convolution
    backward = operators(linear.linear(layer, x).sum().backward)
    assert ("aten::convolution_backward" in backward) is by_convolution  # oneDNN's: see the next test
    with torch.no_grad():
        assert is_convolved(layer, x) is by_convolution
        with torch.backends.mkldnn.flags(enabled=False, allow_tf32=False):
            assert not is_convolved(layer, x)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.usefixtures("threads")
def test_torch_leaves_the_least_convolution_and_its_gradient_to_onednn_and_no_smaller_one() -> None:
    def backend(inputs: int) -> object:
        image, weight = torch.randn(1, 1, 1, inputs), torch.randn(2, 1, 1, 1)
        dilation = [linear.DILATION] * 2
        return torch._C._select_conv_backend(image, weight, None, [1, 1], [0, 0], dilation, False, [0, 0], 1)

    assert backend(linear.LEAST_INPUTS) == torch._C._ConvBackend.Mkldnn
    assert backend(linear.LEAST_INPUTS - 1) != torch._C._ConvBackend.Mkldnn


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize(
    ("rows", "width", "out", "forward", "training"),
    [
        (1024, 96, 96, True, True),
        (512, 96, 96, False, False),
        (128, 768, 3072, True, False),
        (160, 768, 3072, True, True),
        (16, 768, 768, False, False),
    ],
)
@pytest.mark.usefixtures("threads")
def test_small_products_and_gradients_of_many_weights_are_torch_s(
    rows: int, width: int, out: int, forward: bool, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "ONEDNN_FLOAT32", True)
    layer, x = nn.Linear(width, out), torch.randn(1, rows, width)
    assert is_convolved(layer, x) == training
    layer.requires_grad_(False)
    assert is_convolved(layer, x) == forward
    with torch.no_grad():
        assert is_convolved(layer, x) == forward


@pytest.mark.usefixtures("by_convolution")
def test_takes_tokens_that_are_not_contiguous() -> None:
    layer, x = nn.Linear(WIDTH, OUT), torch.randn(3, WIDTH, 400).transpose(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(linear.linear(layer, x), layer(x))


@pytest.mark.usefixtures("by_convolution")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_torch_s_own(dtype: torch.dtype) -> None:
    layer, x = nn.Linear(WIDTH, OUT, dtype=dtype), torch.randn(1, ROWS, WIDTH, dtype=dtype)
    assert torch.equal(linear.linear(layer, x), layer(x))
    wide, y = nn.Linear(WIDTH, OUT), torch.randn(1, ROWS, WIDTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(linear.linear(wide, y), wide(y))


@pytest.mark.usefixtures("by_convolution")
def test_hooks_and_layers_of_other_classes_are_called() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    x, seen = torch.randn(1, ROWS, WIDTH), []
    doubled, hooked, replaced = Doubled(WIDTH, OUT), nn.Linear(WIDTH, OUT), nn.Linear(WIDTH, OUT)
    replaced.forward = lambda x: x
    handle = nn.modules.module.register_module_forward_hook(lambda layer, inputs, output: seen.append(layer))
    with torch.no_grad():
        linear.linear(hooked, x)
        handle.remove()
        assert seen.pop() is hooked
        assert torch.equal(linear.linear(doubled, x), doubled(x))
        assert linear.linear(replaced, x) is x
        hooked.register_forward_hook(lambda layer, inputs, output: seen.append(output))
        assert linear.linear(hooked, x) is seen[0]


@pytest.mark.usefixtures("by_convolution")
def test_an_exported_program_takes_any_batch() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(WIDTH, OUT)

        def forward(self, x: Tensor) -> Tensor:
            return linear.linear(self.layer, x)

    module = Layer().eval()
    with torch.no_grad():
        example = torch.randn(6, 200, WIDTH)
        program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
        for batch in (1, 2, 40):
            x = torch.randn(batch, 200, WIDTH)
            torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_models_agree_and_count_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = create_model(name, input_size=(128, 256)).eval()
    x, logits, counts = torch.randn(16, 1, 128, 256), [], []
    monkeypatch.setattr(linear, "LEAST_MACS", 1)
    for by_convolution in (False, True):
        monkeypatch.setattr(linear, "ONEDNN_FLOAT32", by_convolution)
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
