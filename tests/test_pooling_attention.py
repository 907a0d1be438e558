"""Pooled attention with relative positions, against a plain float64 loop over (query, key) pairs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import chunked_attention, pooling_attention
from models.pooling_attention import ATTENTION_PATHS, PoolingAttention, pooled_grid, relative_index

Grid = tuple[int, int]

# (grid, stride_q, stride_kv): MAST's own kinds of block first, then sizes that the strides do not divide.
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
    grid: Grid = (4, 6),
    stride_q: Grid = (1, 1),
    stride_kv: Grid = (1, 1),
    prefix_tokens: int = 0,
    path: str = "reference",
    dim: int = 6,
    dim_out: int = 8,
    num_heads: int = 2,
) -> PoolingAttention:
    """A float64 module with every parameter random, so that no term can hide behind a zero or a one."""
    torch.manual_seed(0)
    module = PoolingAttention(dim, dim_out, num_heads, grid, stride_q, stride_kv, prefix_tokens, path=path).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.7)
    return module


def make_tokens(module: PoolingAttention, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    tokens = module.prefix_tokens + module.grid[0] * module.grid[1]
    return torch.randn(batch, tokens, module.qkv.in_features, generator=generator, dtype=torch.float64)


def table_row(query: int, key: int, queries: int, keys: int) -> int:
    """Row of a relative-position table, in exact arithmetic (RECIPES 3.3)."""
    query_step, key_step = max(Fraction(keys, queries), Fraction(1)), max(Fraction(queries, keys), Fraction(1))
    return int(query * query_step - key * key_step + (keys - 1) * key_step)


def pool_by_loop(
    tokens: np.ndarray, grid: Grid, stride: Grid, prefix: int, conv: nn.Conv2d, norm: nn.LayerNorm
) -> tuple[np.ndarray, Grid]:
    """One head's tokens (P + F*T, D) through the depthwise 3x3 convolution and LayerNorm; also the new grid."""
    kernel = conv.weight.detach().numpy()[:, 0]  # (D, 3, 3)
    body = tokens[prefix:].reshape(*grid, -1)
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
    pooled = np.concatenate([tokens[:prefix], np.stack(rows)])
    centred = pooled - pooled.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + norm.eps)
    return normed * norm.weight.detach().numpy() + norm.bias.detach().numpy(), (len(freqs), len(times))


def attention_by_loop(module: PoolingAttention, x: Tensor) -> Tensor:
    """softmax(q.k / sqrt(D) + q.(R_freq + R_time)) v + q, projected: one pair at a time, in float64."""
    P, H, D = module.prefix_tokens, module.num_heads, module.head_dim
    freq_table, time_table = module.rel_pos_freq.detach().numpy(), module.rel_pos_time.detach().numpy()
    clips = []
    for clip in module.qkv(x).detach().numpy():
        heads = []
        for q, k, v in zip(*(part.reshape(-1, H, D).swapaxes(0, 1) for part in np.split(clip, 3, axis=1)), strict=True):
            q, q_grid = pool_by_loop(q, module.grid, module.stride_q, P, module.pool_q, module.norm_q)
            k, k_grid = pool_by_loop(k, module.grid, module.stride_kv, P, module.pool_k, module.norm_k)
            v, _ = pool_by_loop(v, module.grid, module.stride_kv, P, module.pool_v, module.norm_v)
            out = []
            for i in range(len(q)):
                scores = np.empty(len(k))
                for j in range(len(k)):
                    scores[j] = q[i] @ k[j] / np.sqrt(D)
                    if i >= P and j >= P:
                        (qf, qt), (kf, kt) = divmod(i - P, q_grid[1]), divmod(j - P, k_grid[1])
                        scores[j] += q[i] @ freq_table[table_row(qf, kf, q_grid[0], k_grid[0])]
                        scores[j] += q[i] @ time_table[table_row(qt, kt, q_grid[1], k_grid[1])]
                weights = np.exp(scores - scores.max())
                out.append(weights / weights.sum() @ v + q[i])
            heads.append(np.stack(out))
        clips.append(np.concatenate(heads, axis=1))
    return module.proj(torch.from_numpy(np.stack(clips))).detach()


@pytest.mark.parametrize("prefix_tokens", [0, 1])
@pytest.mark.parametrize(("grid", "stride_q", "stride_kv"), GEOMETRIES)
def test_every_path_equals_the_loop_over_pairs(grid: Grid, stride_q: Grid, stride_kv: Grid, prefix_tokens: int) -> None:
    module = make_attention(grid, stride_q, stride_kv, prefix_tokens)
    x = make_tokens(module)
    expected = attention_by_loop(module, x)
    for path in ATTENTION_PATHS:
        module.path = path
        torch.testing.assert_close(module(x).detach(), expected, rtol=0, atol=1e-10)


def gradients(module: PoolingAttention, x: Tensor) -> dict[str, Tensor]:
    """Gradients of a fixed random projection of the output, by parameter name, and of the input."""
    x = x.clone().requires_grad_()
    y = module(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    names, parameters = zip(*module.named_parameters(), strict=True)
    grads = torch.autograd.grad((y * weights.to(y.dtype)).sum(), [x, *parameters])
    return dict(zip(["input", *names], grads, strict=True))


@pytest.mark.parametrize("prefix_tokens", [0, 1])
@pytest.mark.parametrize(("grid", "stride_q", "stride_kv"), GEOMETRIES)
def test_gradients_of_every_path_equal_the_reference(
    grid: Grid, stride_q: Grid, stride_kv: Grid, prefix_tokens: int
) -> None:
    module = make_attention(grid, stride_q, stride_kv, prefix_tokens, path="reference")
    x = make_tokens(module)
    expected = gradients(module, x)
    for path in ATTENTION_PATHS:
        module.path = path
        for name, gradient in gradients(module, x).items():
            assert (gradient - expected[name]).abs().max() < 1e-8, f"{path}: {name}"


@pytest.mark.parametrize("pair_numbers", [1, 100])
@pytest.mark.parametrize(("piece_scores", "piece_queries"), [(1, 1), (70, 1), (150, 1), (1, 3)])
@pytest.mark.parametrize("prefix_tokens", [0, 1])
@pytest.mark.parametrize(("grid", "stride_q", "stride_kv"), GEOMETRIES)
def test_the_size_of_its_pieces_does_not_change_chunked_attention(
    grid: Grid,
    stride_q: Grid,
    stride_kv: Grid,
    prefix_tokens: int,
    piece_scores: int,
    piece_queries: int,
    pair_numbers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One query a piece, pieces that do not divide the queries, and a table's rows by one query or a few."""
    module = make_attention(grid, stride_q, stride_kv, prefix_tokens, path="reference")
    x = make_tokens(module)
    output, expected = module(x), gradients(module, x)
    module.path = "chunked"
    monkeypatch.setattr(chunked_attention, "PIECE_SCORES", piece_scores)
    monkeypatch.setattr(chunked_attention, "PIECE_QUERIES", piece_queries)
    monkeypatch.setattr(chunked_attention, "PAIR_NUMBERS", pair_numbers)
    torch.testing.assert_close(module(x), output, rtol=0, atol=1e-10)
    for name, gradient in gradients(module, x).items():
        assert (gradient - expected[name]).abs().max() < 1e-8, name


@pytest.mark.parametrize(("piece_scores", "piece_queries", "sizes"), [(80, 1, [5, 5, 5, 1]), (16, 6, [6, 6, 4])])
def test_a_piece_holds_its_scores_or_its_least_queries(
    piece_scores: int, piece_queries: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long clips have more keys than a piece has scores: a row or two at a time would be slow."""
    monkeypatch.setattr(chunked_attention, "PIECE_SCORES", piece_scores)
    monkeypatch.setattr(chunked_attention, "PIECE_QUERIES", piece_queries)
    q, k = torch.randn(16, 2, 4), torch.randn(8, 2, 4)  # of one clip: 16 queries, 8 keys, 2 heads
    freq, time = (chunked_attention._Axis(torch.randn(7, 4), relative_index(4, keys)) for keys in (2, 4))
    assert [len(probabilities[0]) for _, probabilities, _ in chunked_attention._pieces(q, k, freq, time)] == sizes


def kept_for_backward(module: PoolingAttention, x: Tensor) -> list[int]:
    """Elements of every tensor that the backward pass keeps besides x, parameters and buffers."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (x, *module.parameters(), *module.buffers())}
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y = module(x)  # which holds what was noted, so that no place is used twice
    assert y.requires_grad
    return [size for place, size in sizes.items() if place not in own]


def test_folded_and_chunked_keep_no_tensor_of_queries_by_keys() -> None:
    module = make_attention((8, 16))
    x = make_tokens(module)
    scores = 2 * module.num_heads * (8 * 16) ** 2
    for path, kept in (("reference", True), ("sdpa", True), ("folded", False), ("chunked", False)):
        module.path = path
        assert (max(kept_for_backward(module, x)) >= scores) is kept, path


@pytest.mark.parametrize("prefix_tokens", [0, 1])
def test_large_chunked_attention_keeps_what_it_pools_and_attends_once(
    prefix_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of q, k and v only the unpooled ones stay for the backward pass, which redoes the pooling but not the product."""
    module = make_attention((4, 8), (1, 2), (2, 2), prefix_tokens, "chunked")
    x = make_tokens(module).requires_grad_()
    inputs = [x, *module.parameters()]
    expected = module(x)
    gradients = torch.autograd.grad(expected.square().sum(), inputs)

    monkeypatch.setattr("models.layers.RECOMPUTED_FROM", 0)
    unpooled, attended = x.shape[0] * x.shape[1] * module.proj.in_features, expected.numel()
    assert sorted(kept_for_backward(module, x)) == sorted([unpooled, unpooled, unpooled, attended])

    passes = []  # over the pieces of a clip
    in_pieces = chunked_attention._pieces
    monkeypatch.setattr(chunked_attention, "_pieces", lambda *args: passes.append(1) or in_pieces(*args))
    y = module(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    assert len(passes) == len(x)
    loss = y.square().sum()
    for again in (True, False):  # a second backward pass over the same graph redoes it once more
        for ours, plain in zip(torch.autograd.grad(loss, inputs, retain_graph=again), gradients, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)
    assert len(passes) == 3 * len(x)  # the backward passes' own; none more to make the result again


def test_chunked_attention_is_one_operator_that_compilers_and_meta_tensors_understand() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [
        (2, 9, 2, 4),
        (2, 5, 2, 4),
        (2, 5, 2, 4),
        (3, 4),
        (7, 4),
    ]  # q, k, v and both tables; 2 x 4 queries over 2 x 2 keys, and one prefix token
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    indices = [relative_index(2, 2), relative_index(4, 2)]
    torch.library.opcheck(chunked_attention.chunked_attention, (*tensors, *indices))


def test_auto_takes_the_path_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_attention(path="auto")
    assert module.path_on(torch.device("cpu")) == "sdpa"
    scores = module.num_heads * (4 * 6) ** 2
    monkeypatch.setattr(pooling_attention, "CHUNKED_FROM", scores)
    assert module.path_on(torch.device("cpu")) == "sdpa"
    monkeypatch.setattr(pooling_attention, "CHUNKED_FROM", scores - 1)
    assert module.path_on(torch.device("cpu")) == "chunked"
    assert module.path_on(torch.device("cuda")) == "folded"
    module.path = "reference"
    assert module.path_on(torch.device("cuda")) == "reference"
    x = make_tokens(module)
    expected = module(x)
    module.path = "auto"
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("path", ATTENTION_PATHS)
def test_gradients_equal_finite_differences(path: str) -> None:
    module = make_attention((2, 4), (1, 2), (1, 1), 1, path, dim=3, dim_out=4, num_heads=2)
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
    module = make_attention((6, 9), (1, 2), (2, 2), 1, path, dim=32, dim_out=64, num_heads=2)
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
    module = make_attention((6, 9), (1, 2), (2, 2), 1, path, dim=32, dim_out=64, num_heads=2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.3)
    x = make_tokens(module)
    output, grads = module(x), gradients(module, x)
    module.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_error(module(x.float()), output) < 3e-2
        low = gradients(module, x.float())
    for name in ("input", "qkv.weight", "rel_pos_freq", "rel_pos_time", "pool_k.weight"):
        assert low[name].dtype == torch.float32
        assert relative_error(low[name], grads[name]) < 6e-2, name


@pytest.mark.parametrize("size", [*range(1, 25), 43, 57])
def test_relative_index_is_exact_and_inside_the_table(size: int) -> None:
    for stride_q in (1, 2, 3):
        for stride_kv in (1, 2, 4):
            queries, keys = -(-size // stride_q), -(-size // stride_kv)
            index = relative_index(queries, keys)
            expected = [[table_row(q, k, queries, keys) for k in range(keys)] for q in range(queries)]
            assert index.tolist() == expected
            assert index.min() >= 0 and index.max() < 2 * max(queries, keys) - 1


def test_relative_index_depends_on_the_offset_alone_at_equal_sizes() -> None:
    index = relative_index(5, 5)
    assert torch.equal(index, torch.arange(5)[:, None] - torch.arange(5)[None, :] + 4)
    assert index.unique().numel() == 9  # every row of the table is in use


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
