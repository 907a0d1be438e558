"""Pooled attention with relative positions, against a plain float64 loop over (query, key) pairs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from make_models import saved_sizes
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models import pooling_attention
from models.chunked_attention import InputsOnly, chunked_attention
from models.pool_layouts import POOL_LAYOUTS
from models.pooling_attention import ATTENTION_PATHS, BlockPlan, PoolingAttention, pooled_grid, relative_index
from reproduce.machine import CPUINFO, instruction_sets

Grid = tuple[int, int]
SIZES = {"dim": 6, "dim_out": 8, "num_heads": 2}

# (grid, stride_q, stride_kv): MAST's kinds of block first, then sizes that the strides do not divide.
GEOMETRIES: list[tuple[Grid, Grid, Grid]] = [
    ((4, 8), (1, 1), (4, 4)),
    ((4, 8), (2, 2), (2, 2)),
    ((3, 8), (1, 2), (1, 1)),
    ((2, 9), (1, 1), (1, 1)),
    ((5, 7), (2, 2), (1, 1)),
    ((5, 7), (1, 2), (2, 1)),
    ((7, 10), (1, 1), (4, 2)),
    ((6, 5), (2, 2), (4, 4)),
    ((3, 7), (1, 3), (2, 2)),
    ((1, 6), (1, 2), (1, 1)),
]


def make_attention(
    grid: Grid = (4, 6), stride_q: Grid = (1, 1), stride_kv: Grid = (1, 1), path: str = "reference", **sizes: int
) -> PoolingAttention:
    """A float64 module with every parameter random, so that no term can hide behind a zero or a one."""
    torch.manual_seed(0)
    plan = BlockPlan(grid=grid, stride_q=stride_q, stride_kv=stride_kv, **{**SIZES, **sizes})
    module = PoolingAttention(plan, path=path).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.7)
    return module


def make_tokens(module: PoolingAttention, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, *token_shape(module.plan), generator=generator, dtype=torch.float64)


def token_shape(plan: BlockPlan) -> tuple[int, int]:
    return plan.grid[0] * plan.grid[1], plan.dim


def table_row(query: int, key: int, queries: int, keys: int) -> int:
    """Row of a relative-position table, in exact arithmetic (RECIPES 3.3)."""
    query_step, key_step = max(Fraction(keys, queries), Fraction(1)), max(Fraction(queries, keys), Fraction(1))
    return int(query * query_step - key * key_step + (keys - 1) * key_step)


def pool_by_loop(
    tokens: np.ndarray, grid: Grid, stride: Grid, conv: nn.Conv2d, norm: nn.LayerNorm
) -> tuple[np.ndarray, Grid]:
    """One head's tokens (F*T, D) through the depthwise 3x3 convolution and LayerNorm; also the new grid."""
    kernel = conv.weight.detach().numpy()[:, 0]  # (D, 3, 3)
    body = tokens.reshape(*grid, -1)
    rows = []
    freqs, times = range(0, grid[0], stride[0]), range(0, grid[1], stride[1])
    for freq in freqs:
        for time in times:
            total = np.zeros(tokens.shape[1])
            for df in (-1, 0, 1):
                for dt in (-1, 0, 1):
                    if 0 <= freq + df < grid[0] and 0 <= time + dt < grid[1]:
                        total += body[freq + df, time + dt] * kernel[:, df + 1, dt + 1]
            rows.append(total)
    pooled = np.stack(rows)
    centred = pooled - pooled.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + norm.eps)
    return normed * norm.weight.detach().numpy() + norm.bias.detach().numpy(), (len(freqs), len(times))


def attention_by_loop(module: PoolingAttention, x: Tensor) -> Tensor:
    """softmax(q.k / sqrt(D) + q.(R_freq + R_time)) v + q, projected: one pair at a time, in float64."""
    plan, H, D = module.plan, module.plan.num_heads, module.plan.head_dim
    freq_table, time_table = module.rel_pos_freq.detach().numpy(), module.rel_pos_time.detach().numpy()
    clips = []
    for clip in module.qkv(x).detach().numpy():
        heads = []
        for q, k, v in zip(*(part.reshape(-1, H, D).swapaxes(0, 1) for part in np.split(clip, 3, axis=1)), strict=True):
            q, q_grid = pool_by_loop(q, plan.grid, plan.stride_q, module.pool_q, module.norm_q)
            k, k_grid = pool_by_loop(k, plan.grid, plan.stride_kv, module.pool_k, module.norm_k)
            v, _ = pool_by_loop(v, plan.grid, plan.stride_kv, module.pool_v, module.norm_v)
            out = []
            for i in range(len(q)):
                scores = np.empty(len(k))
                for j in range(len(k)):
                    (qf, qt), (kf, kt) = divmod(i, q_grid[1]), divmod(j, k_grid[1])
                    relative = freq_table[table_row(qf, kf, q_grid[0], k_grid[0])]
                    relative = relative + time_table[table_row(qt, kt, q_grid[1], k_grid[1])]
                    scores[j] = q[i] @ k[j] / np.sqrt(D) + q[i] @ relative
                weights = np.exp(scores - scores.max())
                out.append(weights / weights.sum() @ v + q[i])
            heads.append(np.stack(out))
        clips.append(np.concatenate(heads, axis=1))
    return module.proj(torch.from_numpy(np.stack(clips))).detach()


@pytest.mark.parametrize(("grid", "stride_q", "stride_kv"), GEOMETRIES)
def test_every_path_equals_the_loop_over_pairs(grid: Grid, stride_q: Grid, stride_kv: Grid) -> None:
    module = make_attention(grid, stride_q, stride_kv)
    x = make_tokens(module)
    expected = attention_by_loop(module, x)
    for path in ATTENTION_PATHS:
        module.path = path
        torch.testing.assert_close(module(x).detach(), expected, rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("grid", "stride_q", "stride_kv"), GEOMETRIES[:3])
def test_flex_attention_equals_the_reference(grid: Grid, stride_q: Grid, stride_kv: Grid) -> None:
    """On a CPU it has no backward pass, and training takes another path."""
    module = make_attention(grid, stride_q, stride_kv)
    x = make_tokens(module)
    with torch.no_grad():
        expected = module(x)
        module.path = "flex"
        assert module.path_on(x.device) == "flex"
        torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-10)
    assert module.path_on(x.device) == "sdpa"


@pytest.mark.parametrize(("grid", "stride_q", "stride_kv"), GEOMETRIES)
def test_both_layouts_of_the_convolutions_agree(grid: Grid, stride_q: Grid, stride_kv: Grid) -> None:
    module = make_attention(grid, stride_q, stride_kv)
    x = make_tokens(module)
    outputs, grads = [], []
    for layout in POOL_LAYOUTS:
        module.pool_layout = layout
        outputs.append(module(x).detach())
        grads.append(gradients(module, x))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=0, atol=1e-8, msg=name)


def gradients(module: PoolingAttention, x: Tensor) -> dict[str, Tensor]:
    """Gradients of a fixed random projection of the output, by parameter name, and of the input."""
    x = x.clone().requires_grad_()
    y = module(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    names, parameters = zip(*module.named_parameters(), strict=True)
    grads = torch.autograd.grad((y * weights.to(y.dtype)).sum(), [x, *parameters])
    return dict(zip(["input", *names], grads, strict=True))


@pytest.mark.parametrize(("grid", "stride_q", "stride_kv"), GEOMETRIES)
def test_gradients_of_every_path_equal_the_reference(grid: Grid, stride_q: Grid, stride_kv: Grid) -> None:
    module = make_attention(grid, stride_q, stride_kv, path="reference")
    x = make_tokens(module)
    expected = gradients(module, x)
    for path in ATTENTION_PATHS:
        module.path = path
        for name, gradient in gradients(module, x).items():
            assert (gradient - expected[name]).abs().max() < 1e-8, f"{path}: {name}"


@pytest.mark.parametrize(("grid", "sizes"), [((1, 1100), {"num_heads": 4}), ((3, 400), {"dim_out": 64})], ids=str)
def test_chunked_attention_of_a_long_clip_in_pieces_is_the_reference(grid: Grid, sizes: dict[str, int]) -> None:
    """Several pieces, which do not divide the queries, and table rows gathered in several slices."""
    sizes = {"dim": 2, "dim_out": 16, "num_heads": 2} | sizes
    module = make_attention(grid, **sizes)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.3)
    x = make_tokens(module, batch=1)
    output, expected = module(x), gradients(module, x)
    module.path = "chunked"
    torch.testing.assert_close(module(x), output, rtol=0, atol=1e-10)
    for name, gradient in gradients(module, x).items():
        assert (gradient - expected[name]).abs().max() < 1e-7, name


def test_folded_and_chunked_save_no_tensor_of_queries_by_keys() -> None:
    module = make_attention((8, 16))
    x = make_tokens(module)
    scores = 2 * module.plan.num_heads * (8 * 16) ** 2
    for path, saved in (("reference", True), ("sdpa", True), ("folded", False), ("chunked", False)):
        module.path = path
        sizes = saved_sizes(lambda: module(x), x, *module.parameters(), *module.buffers())
        assert (max(sizes) >= scores) is saved, path


def test_recomputed_chunked_attention_saves_the_unpooled_q_k_v_alone() -> None:
    module = make_attention((4, 8), (1, 2), (2, 2), "chunked")
    x = make_tokens(module).requires_grad_()
    inputs = [x, *module.parameters()]
    expected = module(x)
    expected_gradients = torch.autograd.grad(expected.square().sum(), inputs)

    module.recompute_from = 0
    unpooled, attended = x.shape[0] * x.shape[1] * module.plan.dim_out, expected.numel()
    sizes = saved_sizes(lambda: module(x), x, *module.parameters(), *module.buffers())
    assert sorted(sizes) == sorted([unpooled, unpooled, unpooled, attended])
    y = module(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    loss = y.square().sum()
    for again in (True, False):  # a second backward pass over the same graph recomputes once more
        ours = torch.autograd.grad(loss, inputs, retain_graph=again)
        torch.testing.assert_close(ours, expected_gradients, rtol=1e-9, atol=1e-12)


def operands() -> tuple[list[Tensor], list[Tensor]]:
    """Of `chunked_attention` for 2 x 4 queries over 2 x 2 keys: q, k, v and both tables; both indices."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 8, 2, 4), (2, 4, 2, 4), (2, 4, 2, 4), (3, 4), (7, 4)]
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    return tensors, [relative_index(2, 2), relative_index(4, 2)]


def test_under_inputs_only_the_attention_is_not_computed_but_has_its_gradients() -> None:
    tensors, indices = operands()
    grad = torch.randn(2, 8, 2, 4)
    expected = torch.autograd.grad(chunked_attention(*tensors, *indices), tensors, grad)
    with InputsOnly():
        y = chunked_attention(*tensors, *indices)
    assert not y.any()
    assert chunked_attention(*tensors, *indices).any()  # the context has ended
    torch.testing.assert_close(torch.autograd.grad(y, tensors, grad), expected)


def test_compilers_and_meta_tensors_see_one_chunked_operator() -> None:
    tensors, indices = operands()
    torch.library.opcheck(chunked_attention, (*tensors, *indices))


def path_on(
    device: str, grid: Grid, path: str = "auto", dtype: torch.dtype | None = torch.bfloat16, **sizes: int
) -> str:
    with torch.device("meta"):
        plan = BlockPlan(grid=grid, **{**SIZES, **sizes})
        return PoolingAttention(plan, path=path).path_on(torch.device(device), dtype)


def test_auto_on_a_cpu_is_chunked_beyond_262144_scores() -> None:
    assert path_on("cpu", (16, 16), num_heads=4) == "sdpa"  # 4 heads x 256 queries x 256 keys
    assert path_on("cpu", (1, 257), num_heads=4) == "chunked"
    assert path_on("cpu", (1, 257), "reference", num_heads=4) == "reference"


@pytest.mark.skipif(not CPUINFO.exists(), reason="/proc/cpuinfo lists the instruction sets on Linux alone")
@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="this torch cannot tell whether a CPU has AMX")
def test_amx_is_found_where_the_system_lists_it() -> None:
    # A kernel without support for it does not list what the processor has.
    assert pooling_attention.AMX_BFLOAT16 or "amx_bf16" not in instruction_sets()


def test_auto_on_a_cpu_with_amx_is_folded_in_bfloat16_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling_attention, "AMX_BFLOAT16", False)
    with torch.no_grad():
        assert path_on("cpu", (8, 120), dim_out=256) == "chunked"
    monkeypatch.setattr(pooling_attention, "AMX_BFLOAT16", True)
    with torch.no_grad():
        assert path_on("cpu", (16, 16), num_heads=4) == "sdpa"
        assert path_on("cpu", (8, 120), dim_out=256) == "folded"  # 128 + 8 + 120 = 256
        assert path_on("cpu", (8, 121), dim_out=256) == "chunked"
        for dtype in (torch.float16, torch.float32):
            assert path_on("cpu", (8, 120), dtype=dtype, dim_out=256) == "chunked"
    assert path_on("cpu", (8, 120), dim_out=256) == "chunked"


def test_auto_on_a_gpu_is_folded_up_to_the_head_size_of_flash_kernels() -> None:
    for device in ("cuda", "meta"):
        assert path_on(device, (8, 216), dim_out=64) == "folded"  # 32 + 8 + 216 = 256
        assert path_on(device, (8, 217), dim_out=64) == "sdpa"
        assert path_on(device, (8, 217), "folded", dim_out=64) == "folded"


def test_auto_on_a_gpu_is_sdpa_in_float32_which_no_flash_kernel_takes() -> None:
    assert path_on("cuda", (8, 216), dtype=torch.float32, dim_out=64) == "sdpa"
    assert path_on("cuda", (8, 216), dtype=None, dim_out=64) == "sdpa"  # float32 weights and no autocast
    assert path_on("cuda", (8, 216), dtype=torch.float16, dim_out=64) == "folded"
    with torch.device("meta"):
        narrow = PoolingAttention(BlockPlan(grid=(8, 216), dim=6, dim_out=64, num_heads=2)).bfloat16()
    assert narrow.path_on(torch.device("cuda")) == "folded"


def test_flex_on_a_gpu_takes_heads_of_16_and_more() -> None:
    assert path_on("cuda", (4, 8), "flex", dim_out=32) == "flex"
    assert path_on("cuda", (4, 8), "flex", dim_out=30) == "sdpa"


class OperatorInputs(TorchDispatchMode):
    """Lists operators, and collects the dtypes of the tensors that are concatenated or convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []
        self.concatenated: set[torch.dtype] = set()
        self.convolved: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators.append(str(func))
        if func is torch.ops.aten.cat.default:
            self.concatenated |= {tensor.dtype for tensor in args[0]}
        if "convolution" in str(func):
            self.convolved.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


def test_folded_attention_concatenates_in_the_dtype_of_autocast() -> None:
    """On CUDA LayerNorm returns float32 under autocast, which a hook imitates."""
    module = make_attention((6, 9), path="folded").float()
    for norm in (module.norm_q, module.norm_k, module.norm_v):
        norm.register_forward_hook(lambda m, i, y: y.float())
    with torch.autocast("cpu", torch.bfloat16), OperatorInputs() as seen, torch.no_grad():
        module(make_tokens(module).float())
    assert seen.concatenated == {torch.bfloat16}


@pytest.mark.parametrize(("stride", "dtype"), [((1, 1), torch.bfloat16), ((2, 2), torch.float32)], ids=str)
def test_a_cpu_in_bfloat16_trains_strided_convolutions_in_float32(stride: Grid, dtype: torch.dtype) -> None:
    module = make_attention((6, 9), stride, stride).float()
    x = make_tokens(module).float()
    with torch.autocast("cpu", torch.bfloat16), OperatorInputs() as training:
        module(x).sum().backward()
    with torch.autocast("cpu", torch.bfloat16), OperatorInputs() as inference, torch.no_grad():
        module(x)
    assert training.convolved == {dtype}
    assert inference.convolved == {torch.bfloat16}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights_have_gradients_under_autocast(dtype: torch.dtype) -> None:
    module = make_attention((6, 9), (1, 2), (2, 2)).float()
    for pool in (module.pool_q, module.pool_k, module.pool_v, module.qkv, module.proj):
        assert pool is not None
        pool.to(dtype)
    x = make_tokens(module).float().requires_grad_()
    with torch.autocast("cpu", dtype):
        module(x).float().sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


def test_folded_attention_makes_no_unit_vectors_per_forward_pass() -> None:
    module = make_attention((6, 9), path="folded")
    with OperatorInputs() as seen, torch.no_grad():
        module(make_tokens(module))
    assert not [name for name in seen.operators if "eye" in name or "repeat_interleave" in name]
    assert not [name for name in module.state_dict() if "one_hot" in name or "index" in name]


@pytest.mark.parametrize("path", ATTENTION_PATHS)
def test_gradients_equal_finite_differences(path: str) -> None:
    module = make_attention((2, 4), (1, 2), (1, 1), path, dim=3, dim_out=4, num_heads=2)
    names, values = zip(*module.named_parameters(), strict=True)

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), x)

    inputs = [tensor.detach().clone().requires_grad_() for tensor in (make_tokens(module, batch=1), *values)]
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)


def relative_error(measured: Tensor, expected: Tensor) -> float:
    return ((measured.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("path", ATTENTION_PATHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_lower_precision_stays_within_its_rounding(path: str, dtype: torch.dtype, tolerance: float) -> None:
    module = make_attention((6, 9), (1, 2), (2, 2), path, dim=32, dim_out=64, num_heads=2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.3)
    module.to(dtype)  # rounded weights on both sides: only the arithmetic is compared
    x = make_tokens(module).to(dtype)
    measured = module(x)
    assert measured.dtype == dtype
    assert relative_error(measured, module.double()(x.double())) < tolerance


@pytest.mark.parametrize("path", ATTENTION_PATHS)
def test_autocast_stays_near_float64_forwards_and_backwards(path: str) -> None:
    module = make_attention((6, 9), (1, 2), (2, 2), path, dim=32, dim_out=64, num_heads=2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.3)
    x = make_tokens(module)
    output, grads = module(x), gradients(module, x)
    module.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_error(module(x.float()), output) < 3e-2
        with torch.no_grad():
            assert relative_error(module(x.float()), output) < 3e-2
        low = gradients(module, x.float())
    for name in ("input", "qkv.weight", "rel_pos_freq", "rel_pos_time", "pool_k.weight"):
        assert low[name].dtype == torch.float32
        assert relative_error(low[name], grads[name]) < 6e-2, name


@pytest.mark.parametrize("path", ATTENTION_PATHS)
def test_autocast_leaves_float64_as_it_is(path: str) -> None:
    module = make_attention((6, 9), (1, 2), (2, 2), path)
    x = make_tokens(module)
    with torch.no_grad():
        expected = module(x)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [*range(1, 25), 43, 57])
def test_relative_index_is_exact_and_inside_the_table(size: int) -> None:
    for stride_q in (1, 2, 3):
        for stride_kv in (1, 2, 4):
            queries, keys = -(-size // stride_q), -(-size // stride_kv)
            index = relative_index(queries, keys)
            expected = [[table_row(q, k, queries, keys) for k in range(keys)] for q in range(queries)]
            assert index.tolist() == expected
            assert index.min() >= 0 and index.max() < 2 * max(queries, keys) - 1


@pytest.mark.parametrize("stride", [(1, 1), (1, 2), (2, 2), (3, 4)])
@pytest.mark.parametrize("grid", [(1, 1), (8, 64), (5, 7)])
def test_pooled_grid_is_what_a_convolution_gives(grid: Grid, stride: Grid) -> None:
    conv = nn.Conv2d(1, 1, 3, stride, 1)
    assert pooled_grid(grid, stride) == tuple(conv(torch.zeros(1, 1, *grid)).shape[2:])


@pytest.mark.parametrize("path", ATTENTION_PATHS)
def test_frequency_and_time_tables_each_see_their_own_axis(path: str) -> None:
    """Without the relative terms, transposing a grid of tokens transposes the output; each table breaks that alone."""
    module = make_attention((3, 3), path=path)
    with torch.no_grad():
        for name in ("pool_q", "pool_k", "pool_v"):  # an isotropic kernel
            weight = getattr(module, name).weight
            weight.copy_(weight + weight.transpose(2, 3))
    x = make_tokens(module)
    swap = torch.arange(9).view(3, 3).T.flatten()

    def transposes(freq: Tensor, time: Tensor) -> bool:
        with torch.no_grad():
            module.rel_pos_freq.copy_(freq)
            module.rel_pos_time.copy_(time)
        return torch.allclose(module(x[:, swap]), module(x)[:, swap], atol=1e-10)

    table, zeros = module.rel_pos_freq.detach().clone(), torch.zeros_like(module.rel_pos_freq)
    assert transposes(zeros, zeros)
    assert transposes(table, table)
    assert not transposes(table, zeros)
    assert not transposes(zeros, table)
