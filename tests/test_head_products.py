"""Products per head, in place, by convolutions agree with torch's; so does attention in pieces that is made of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from products import gradients, operators
from torch import Tensor

from models import ast_model, attention_pieces, create_model, head_products, linear, plain_attention
from models.head_products import add_products, add_products_over_rows
from models.pooling_attention import BlockPlan, PoolingAttention

BY_ONEDNN = {"mkldnn::_convolution_pointwise_", "aten::convolution_backward"}
ROWS, WIDTH = 300, 96  # more inputs than torch keeps from oneDNN


@pytest.fixture(params=[False, True], ids=["torch", "convolution"])
def by_convolution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether float32 products go through a convolution, whatever this CPU prefers."""
    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(linear, "ONEDNN_FLOAT32", request.param)
    monkeypatch.setattr(head_products, "LEAST_MACS", 1)
    monkeypatch.setattr(ast_model, "LEAST_HEAD_MACS", 1)
    return bool(request.param)


def clip(rows: int, heads: int, width: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(rows, heads, width)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("rows", [3, 300])
@pytest.mark.parametrize("heads", [1, 3])
def test_products_are_those_of_every_head(by_convolution: bool, rows: int, heads: int) -> None:
    torch.manual_seed(0)
    x, out = clip(rows, heads, 8), clip(rows, heads, 20)
    w = clip(8, heads, 20).permute(2, 1, 0)  # not contiguous
    product = torch.einsum("nhi,ohi->nho", x.double(), w.double())
    expected = out.double() + 0.5 * product
    assert ("mkldnn::_convolution_pointwise_" in operators(lambda: add_products(out.clone(), x, w))) is by_convolution
    add_products(out, x, w, scale=0.5)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    out.fill_(torch.nan)
    add_products(out, x, w, beta=0.0)
    torch.testing.assert_close(out.double(), product, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("rows", [3, ROWS])
@pytest.mark.parametrize("heads", [1, 3])
def test_sums_over_rows_are_those_of_every_head(by_convolution: bool, rows: int, heads: int) -> None:
    """torch computes the three rows: it leaves no image of so few inputs to oneDNN."""
    torch.manual_seed(0)
    y, x, out = clip(rows, heads, 20), clip(rows, heads, WIDTH), clip(20, heads, WIDTH)
    expected = out.double() + 0.5 * torch.einsum("nho,nhi->ohi", y.double(), x.double())
    used = operators(lambda: add_products_over_rows(out.clone(), y, x))
    assert ("aten::convolution_backward" in used) is (by_convolution and rows == ROWS)
    add_products_over_rows(out, y, x, scale=0.5)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("by_convolution")
@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_and_a_disabled_onednn_have_torchs_products(dtype: torch.dtype) -> None:
    x, w = clip(ROWS, 2, WIDTH).to(dtype), clip(20, 2, WIDTH).to(dtype)

    def both() -> None:
        y = x.new_zeros(ROWS, 2, 20)
        add_products(y, x, w)
        add_products_over_rows(torch.zeros_like(w), y, x)

    assert not BY_ONEDNN & operators(both)
    x, w = x.float(), w.float()
    with torch.backends.mkldnn.flags(enabled=False):
        assert not BY_ONEDNN & operators(both)


@pytest.mark.usefixtures("by_convolution")
def test_tensors_that_are_not_contiguous_are_multiplied_too() -> None:
    x, w = torch.randn(8, 2, ROWS).permute(2, 1, 0), clip(20, 2, 8)
    out = torch.zeros(ROWS, 2, 20)
    add_products(out, x, w)
    torch.testing.assert_close(out, torch.einsum("nhi,ohi->nho", x, w), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("by_convolution")
@pytest.mark.parametrize(("queries", "scores"), [(20, 2**21), (600, 2**21), (600, 1)], ids=str)
def test_plain_attention_is_torchs_with_its_gradients(
    queries: int, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last case has pieces of 256 queries, which do not divide the queries."""
    monkeypatch.setattr(plain_attention, "PIECE_SCORES", scores)
    torch.manual_seed(0)
    inputs = [torch.randn(2, queries, 2, WIDTH, requires_grad=True) for _ in range(3)]
    ours = plain_attention.plain_attention(*inputs)
    q, k, v = (x.double().transpose(1, 2) for x in inputs)
    expected = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)
    for gradient, exact in zip(gradients(ours, *inputs), gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(gradient, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("by_convolution")
@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_a_batch_of_no_clips_has_no_result_and_no_gradient(name: str) -> None:
    model: Any = create_model(name, num_classes=3, input_size=(32, 64)).set_attention("chunked")
    logits = model(torch.zeros(0, 1, 32, 64))
    logits.sum().backward()
    assert logits.shape == (0, 3)
    assert not model.blocks[0].attn.qkv.weight.grad.any()


def test_compilers_and_meta_tensors_see_one_plain_operator() -> None:
    inputs = [torch.randn(2, 6, 2, 4, requires_grad=True) for _ in range(3)]
    torch.library.opcheck(plain_attention.plain_attention, tuple(inputs))


@pytest.mark.usefixtures("by_convolution", "threads")
@pytest.mark.parametrize("queries", [64, 256], ids=str)
def test_pooling_attention_in_pieces_is_the_reference_in_float32(queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_pieces, "PIECE_QUERIES", queries)
    monkeypatch.setattr("models.chunked_attention.PIECE_SCORES", 1)
    torch.manual_seed(0)
    module = PoolingAttention(BlockPlan(dim=24, dim_out=3 * WIDTH, num_heads=3, grid=(8, 36), stride_kv=(2, 2)))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(2, 8 * 36, 24, requires_grad=True)
    inputs = (x, *module.parameters())
    module.path = "reference"
    expected = module(x)
    exact = gradients(expected, *inputs)
    module.path = "chunked"
    ours = module(x)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    for gradient, other in zip(gradients(ours, *inputs), exact, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-5 + 1e-3 * float(other.abs().max()))


def test_auto_takes_pieces_for_ast_where_its_products_are_convolved(by_convolution: bool) -> None:
    model: Any = create_model("ast_debug", num_classes=3, input_size=(32, 64)).eval()
    assert model.attention == ("chunked" if by_convolution else "sdpa")
    x = torch.randn(2, 1, 32, 64)
    with torch.inference_mode():
        expected = model.set_attention("sdpa")(x)
        torch.testing.assert_close(model.set_attention("auto")(x), expected, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model.attention == "sdpa"
    assert model.bfloat16().attention == "sdpa"
    assert model.to("meta").float().attention == "sdpa"


def test_auto_takes_no_pieces_for_few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "ONEDNN_FLOAT32", True)
    of_tokens = {}
    for frames in (424, 446):  # 12 rows of 41 and of 44 patches
        model: Any = create_model("ast_tiny", num_classes=3, input_size=(128, frames))
        of_tokens[model.tokens] = model.attention
    assert of_tokens == {494: "sdpa", 530: "chunked"}


@pytest.mark.usefixtures("by_convolution")
@pytest.mark.parametrize("trace", [torch.jit.trace, torch.export.export], ids=["jit", "export"])
@pytest.mark.filterwarnings("ignore")  # jit.trace is deprecated
def test_an_exported_or_traced_ast_has_no_operator_of_ours(trace: Any) -> None:
    model = create_model("ast_debug", num_classes=3, input_size=(32, 64)).eval()
    x = torch.randn(1, 1, 32, 64)
    with torch.no_grad():
        program = trace(model, x if trace is torch.jit.trace else (x,))
    assert "plain_attention" not in str(getattr(program, "graph_module", None) or program.inlined_graph)


class _OwnLinear(torch.nn.Module):
    """A layer without the attributes of a Linear, as quantized ones are."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.call = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.call(x)
        return y


@pytest.mark.usefixtures("by_convolution")
def test_ast_runs_with_layers_of_another_class() -> None:
    model: Any = create_model("ast_debug", num_classes=3, input_size=(32, 64)).eval()
    x = torch.randn(1, 1, 32, 64)
    with torch.inference_mode():
        expected = model(x)
        for block in model.blocks:
            block.attn.qkv = _OwnLinear(block.attn.qkv)
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-6)
