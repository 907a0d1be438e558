"""Published weights become ours without changing what the model computes, and no key is lost without a word.

The sources are random weights with the official names and shapes, from timm and transformers themselves.
"""

from __future__ import annotations

import fractions
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models import AST, MAST, registry
from models.ast_model import resize_position_embedding
from models.checkpoints import load_checkpoint, save_checkpoint, weights_sha256
from models.pretrained import LoadReport, detect_format, load_by_name, load_pretrained
from models.weight_files import CheckpointError, read_state_dict

timm = pytest.importorskip("timm")
StateDict = dict[str, Tensor]
WIDTH, HEADS, DEPTH = 32, 2, 2


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def create_model(name: str, **arguments: Any) -> Any:
    """`models.create_model`, typed so that a test may reach into the model."""
    return registry.create_model(name, **arguments)


def randomised(module: nn.Module) -> Any:
    """Random biases, norms and position tables too, which are built as zeros and ones and would hide an exchange."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval()(x)


def deit(img_size: int | tuple[int, int] = 384, patch_stride: int = 16, in_chans: int = 3, depth: int = DEPTH) -> Any:
    """timm's distilled DeiT, narrow. At 384 its position grid is 24 x 24, as in the published weights."""
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import PatchEmbed

    class Overlapping(PatchEmbed):
        """Patches that overlap, the change AST's code makes to timm."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.grid_size = tuple((size - 16) // patch_stride + 1 for size in self.img_size)
            self.num_patches = self.grid_size[0] * self.grid_size[1]
            self.proj.stride = (patch_stride, patch_stride)
            self.strict_img_size = False

    return randomised(
        VisionTransformerDistilled(
            img_size=img_size,
            patch_size=16,
            in_chans=in_chans,
            embed_dim=WIDTH,
            depth=depth,
            num_heads=HEADS,
            embed_layer=Overlapping,
        )
    )


def mvitv2(img_size: int = 64, depths: tuple[int, ...] = (1, 2, 1, 1), classes: int = 10) -> nn.Module:
    """timm's MViTv2 of our mast_debug's width."""
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg

    cfg = MultiScaleVitCfg(embed_dim=8, depths=depths)
    return randomised(MultiScaleVit(cfg, img_size=(img_size, img_size), num_classes=classes))


def official_ast(grid: tuple[int, int] = (12, 101), classes: int = 7) -> StateDict:
    """State dict as AST's train script saves it from DataParallel, DeiT's two dead heads included."""
    v = deit(in_chans=1).state_dict()
    v["pos_embed"] = torch.randn(1, 2 + grid[0] * grid[1], WIDTH)
    head = randomised(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes))).state_dict()
    return {f"module.v.{k}": t for k, t in v.items()} | {f"module.mlp_head.{k}": t for k, t in head.items()}


def as_fair(state_dict: StateDict, depths: tuple[int, ...]) -> StateDict:
    """timm's MViTv2 names to FAIR's, the inverse of timm's own `checkpoint_filter_fn`."""
    renamed = {}
    for key, tensor in state_dict.items():
        parts = key.split(".")
        if parts[0] == "stages":
            key = ".".join(["blocks", str(sum(depths[: int(parts[1])]) + int(parts[3])), *parts[4:]])
        key = key.replace("shortcut_proj_attn", "proj").replace("head.fc", "head.projection")
        renamed[key] = tensor
    return renamed


def ast(**overrides: Any) -> Any:
    return create_model("ast_debug", **{"num_classes": 7, "input_size": (128, 128), **overrides})


def mast(**overrides: Any) -> Any:
    defaults: dict[str, Any] = {"num_classes": 10, "input_size": (64, 64), "in_chans": 3, "depths": (1, 2, 1, 1)}
    return create_model("mast_debug", **{**defaults, "pool_strides": ((2, 2),) * 3, **overrides})


def assert_complete(report: LoadReport, model: nn.Module, source: StateDict) -> None:
    """Every key of the model, and of the source, is in the report exactly once."""
    assert sorted(entry.key for entry in report.entries if entry.key) == sorted(model.state_dict())
    sources = [key for entry in report.entries for key in entry.source_keys]
    assert sorted(sources) == sorted(key.removeprefix("module.") for key in source)


# --- DeiT -> AST


def test_deit_keeps_its_features_on_its_own_grid_and_channels() -> None:
    source = deit(img_size=64)
    model = ast(input_size=(64, 64), in_chans=3, patch_stride=16)
    report = load_pretrained(model, source.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model.eval().forward_features(x), source.forward_features(x), atol=1e-5, rtol=0)
    assert report.format == "deit"
    assert_complete(report, model, source.state_dict())


def test_deit_to_ast_sums_channels_cuts_positions_and_names_the_rest() -> None:
    source = deit().state_dict()
    model = create_model("ast_debug")
    built = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    report = load_pretrained(model, {"module." + key: tensor for key, tensor in source.items()})
    loaded = model.state_dict()
    assert torch.equal(loaded["patch_embed.proj.weight"], source["patch_embed.proj.weight"].sum(1, keepdim=True))
    grid = source["pos_embed"][:, 2:].transpose(1, 2).reshape(1, WIDTH, 24, 24)
    expected = F.interpolate(grid, size=(24, 101), mode="bilinear")[:, :, 6:18]  # RECIPES 2.2: rows 6..17
    patches = loaded["pos_embed"][:, 2:].transpose(1, 2).reshape(1, WIDTH, 12, 101)
    assert torch.equal(patches, expected)
    assert torch.equal(loaded["pos_embed"][:, :2], source["pos_embed"][:, :2])
    assert [e.key for e in report.having("summed channels")] == ["patch_embed.proj.weight"]
    assert [e.key for e in report.having("resized")] == ["pos_embed"]
    initialised = [e.key for e in report.having("initialised")]
    assert initialised == ["head_norm.weight", "head_norm.bias", "head.fc.weight", "head.fc.bias"]
    assert all(torch.equal(loaded[key], built[key]) for key in initialised)
    dropped = {key for e in report.having("dropped by rule") for key in e.source_keys}
    assert dropped == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    assert report.adapted == 6


@pytest.mark.parametrize(("grid", "rows", "columns"), [((12, 13), (6, 18), (6, 19)), ((24, 24), (0, 24), (0, 24))])
def test_short_axes_are_cut_from_the_centre(grid: Any, rows: Any, columns: Any) -> None:
    source = torch.randn(1, 2 + 24 * 24, 4)
    resized = resize_position_embedding(source, (24, 24), grid)
    expected = source[:, 2:].reshape(24, 24, 4)[slice(*rows), slice(*columns)].reshape(1, -1, 4)
    assert torch.equal(resized, torch.cat((source[:, :2], expected), dim=1))


def test_long_frequency_axis_is_interpolated_after_time() -> None:
    source = torch.randn(1, 2 + 12 * 101, 4)
    resized = resize_position_embedding(source, (12, 101), (25, 40))
    grid = source[:, 2:].transpose(1, 2).reshape(1, 4, 12, 101)[..., 30:70]  # RECIPES 2.3: from 50 - int(t/2)
    expected = F.interpolate(grid, size=(25, 40), mode="bilinear")
    assert torch.equal(resized[:, 2:], expected.reshape(1, 4, -1).transpose(1, 2))


# --- AST -> AST


def test_official_ast_computes_the_same_logits() -> None:
    v, classes = deit(img_size=(128, 128), patch_stride=10, in_chans=1), 7
    head = randomised(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes)))
    source = {f"module.v.{k}": t for k, t in v.state_dict().items()}
    source |= {f"module.mlp_head.{k}": t for k, t in head.state_dict().items()}
    model = ast()
    report = load_pretrained(model, source, source_grid=(12, 12))
    x = torch.randn(2, 1, 128, 128)
    with torch.inference_mode():  # forward of ast_models.py after the transposition of its input
        tokens = v.forward_features(x)
        expected = head((tokens[:, 0] + tokens[:, 1]) / 2)
    torch.testing.assert_close(logits(model, x), expected, atol=1e-5, rtol=0)
    assert (report.format, report.adapted) == ("ast-official", 0)
    assert {e.source_keys[0].split(".")[1] for e in report.having("dropped by rule")} == {"head", "head_dist"}
    assert_complete(report, model, source)


@pytest.mark.parametrize("frames", [512, 1024, 2000])
def test_official_ast_fits_other_durations(frames: int) -> None:
    source = official_ast()
    model = ast(input_size=(128, frames))
    report = load_pretrained(model, source)
    columns = model.config.grid[1]
    grid = source["module.v.pos_embed"][:, 2:].transpose(1, 2).reshape(1, WIDTH, 12, 101)
    if columns <= 101:
        expected = grid[..., 50 - columns // 2 : 50 - columns // 2 + columns]
    else:
        expected = F.interpolate(grid, size=(12, columns), mode="bilinear")
    assert torch.equal(model.pos_embed[:, 2:], expected.reshape(1, WIDTH, -1).transpose(1, 2))
    assert [e.key for e in report.having("resized")] == ([] if frames == 1024 else ["pos_embed"])


def test_head_of_other_classes_stays_initialised_and_is_named() -> None:
    source = official_ast()
    for num_classes, heads in ((5, ["head.fc"]), ({"verb": 7, "noun": 7}, ["head.fc.verb", "head.fc.noun"])):
        model = ast(num_classes=num_classes)
        report = load_pretrained(model, source)
        expected = {f"{stem}.{kind}" for stem in ["head_norm", *heads] for kind in ("weight", "bias")}
        assert {e.key for e in report.having("initialised")} == expected
        dropped = {key for e in report.having("dropped by rule") for key in e.source_keys}
        assert dropped >= {"mlp_head.0.weight", "mlp_head.0.bias", "mlp_head.1.weight", "mlp_head.1.bias"}
        assert f"{len(expected)} initialised" in report.summary()
        assert_complete(report, model, source)


@pytest.mark.parametrize("grid", [(8, 24), (8, 48), (10, 42), (12, 16), (12, 12), (7, 9)])
def test_a_grid_that_the_patches_do_not_tell_must_be_given(grid: tuple[int, int]) -> None:
    """8 x 24 patches are as many as 12 x 16: taking one for the other mixes frequencies."""
    source = official_ast(grid)
    patches = grid[0] * grid[1]
    for size in ((128, 128), (128, 166), (6 + 10 * grid[0], 6 + 10 * grid[1])):
        model = ast(input_size=size)
        with pytest.raises(CheckpointError, match=f"{patches} patches of unknown layout: pass source_grid"):
            load_pretrained(model, source)
        load_pretrained(model, source, source_grid=grid)
        expected = resize_position_embedding(source["module.v.pos_embed"], grid, model.config.grid)
        assert torch.equal(model.pos_embed, expected)
    with pytest.raises(CheckpointError, match=rf"{patches} patches, unlike source_grid \(6, 9\)"):
        load_pretrained(ast(), source, source_grid=(6, 9))


def test_a_grid_is_read_from_transformers_config_beside_the_file(tmp_path: Path) -> None:
    path, config = tmp_path / "weights.pth", tmp_path / "config.json"
    source = official_ast((8, 24))
    torch.save(source, path)
    sizes = {"num_mel_bins": 86, "max_length": 246, "patch_size": 16, "frequency_stride": 10, "time_stride": 10}
    config.write_text(json.dumps(sizes))
    model = ast(input_size=(128, 166))
    load_pretrained(model, path)
    assert torch.equal(model.pos_embed, resize_position_embedding(source["module.v.pos_embed"], (8, 24), (12, 16)))
    for text in ("{}", "[]", "{", json.dumps(sizes | {"time_stride": 0})):
        config.write_text(text)
        with pytest.raises(CheckpointError, match="unknown layout"):
            load_pretrained(model, path)


def test_grids_of_equal_size_but_other_shape_are_not_confused() -> None:
    source = official_ast()
    model = ast(input_size=(1024, 128))
    assert model.config.grid == (101, 12)
    report = load_pretrained(model, source)
    assert [e.key for e in report.having("resized")] == ["pos_embed"]


@pytest.fixture(scope="module")
def hf_ast() -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ASTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        num_mel_bins=128,
        max_length=128,
        num_labels=7,
        attn_implementation="eager",
    )
    return randomised(transformers.ASTForAudioClassification(config))


def on_disk_names(state_dict: StateDict) -> StateDict:
    """transformers 5 names in memory to those of the published file (RECIPES 2.4)."""
    renames = [(f".attention.{n[0]}_proj.", f".attention.attention.{n}.") for n in ("query", "key", "value")]
    renames += [(".attention.o_proj.", ".attention.output.dense."), (".mlp.fc1.", ".intermediate.dense.")]
    renames += [(".mlp.fc2.", ".output.dense."), ("transformer.layers.", "transformer.encoder.layer.")]
    renamed = {}
    for key, tensor in state_dict.items():
        for new, old in renames:
            key = key.replace(new, old)
        renamed[key] = tensor
    return renamed


@pytest.mark.parametrize("names", ["in memory", "on disk"])
def test_hugging_face_ast_computes_the_same_logits(hf_ast: Any, names: str) -> None:
    source = hf_ast.state_dict() if names == "in memory" else on_disk_names(hf_ast.state_dict())
    assert any("encoder.layer.0.attention.attention.query" in key for key in source) == (names == "on disk")
    model = ast(norm_eps=1e-12, head_norm_eps=1e-12)  # Hugging Face's epsilon
    report = load_pretrained(model, source, source_grid=(12, 12))
    x = torch.randn(2, 1, 128, 128)
    expected = logits(lambda_module(lambda y: hf_ast(y).logits), x[:, 0].transpose(1, 2))
    torch.testing.assert_close(logits(model, x), expected, atol=1e-5, rtol=0)
    assert (report.format, report.adapted) == ("ast-huggingface", 0)
    qkv = next(e for e in report.entries if e.key == "blocks.1.attn.qkv.weight")
    assert len(qkv.source_keys) == 3
    assert_complete(report, model, source)


def lambda_module(function: Callable[[Tensor], Tensor]) -> nn.Module:
    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    return Wrapped()


def test_file_saved_by_transformers_loads(hf_ast: Any, tmp_path: Path) -> None:
    hf_ast.save_pretrained(tmp_path)
    report = load_pretrained(ast(), tmp_path / "model.safetensors")
    assert (report.format, report.adapted) == ("ast-huggingface", 0)


def test_hugging_face_encoder_without_classifier_leaves_the_head_initialised(hf_ast: Any) -> None:
    bare = hf_ast.audio_spectrogram_transformer.state_dict()
    report = load_pretrained(ast(), bare, source_grid=(12, 12))
    assert len(report.having("initialised")) == 4
    with pytest.raises(CheckpointError, match=r"nothing for 'head.fc.bias'"):
        load_pretrained(ast(), {k: t for k, t in hf_ast.state_dict().items() if k != "classifier.dense.bias"})


def test_hugging_face_query_without_key_is_named(hf_ast: Any) -> None:
    source = {k: t for k, t in hf_ast.state_dict().items() if not k.endswith("layers.1.attention.k_proj.bias")}
    with pytest.raises(CheckpointError, match=r"nothing for 'blocks.1.attn.key.bias'"):
        load_pretrained(ast(), source)


# --- MViTv2 -> MAST


@pytest.mark.parametrize("names", ["timm", "fair"])
def test_mvitv2_computes_the_same_logits(names: str) -> None:
    source = mvitv2()
    state_dict = source.state_dict() if names == "timm" else as_fair(source.state_dict(), (1, 2, 1, 1))
    model = mast()
    report = load_pretrained(model, state_dict)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(logits(model, x), logits(source, x), atol=1e-5, rtol=0)
    assert (report.format, report.adapted) == (f"mvitv2-{names}", 0)
    assert_complete(report, model, state_dict)


def test_mvitv2_at_the_published_resolution_computes_the_same_logits() -> None:
    source = mvitv2(img_size=224, classes=1000)
    model = mast(input_size=(224, 224), num_classes=1000)
    load_pretrained(model, source.state_dict())
    x = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(logits(model, x), logits(source, x), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def mast_base() -> Any:
    """The paper's model, with random weights; tests that load into it replace them all but the head's."""
    return create_model("mast_base")


@pytest.fixture(scope="module")
def mvitv2_base() -> StateDict:
    torch.manual_seed(0)
    return timm.create_model("mvitv2_base", pretrained=False).state_dict()


def test_full_size_mvitv2_adapts_exactly_51_of_564_tensors(mvitv2_base: StateDict, mast_base: Any) -> None:
    model = mast_base
    before = model.head.fc.weight.clone()
    source = as_fair(mvitv2_base, (2, 3, 16, 3))
    report = load_pretrained(model, source)
    assert (len(model.state_dict()), report.matched, report.adapted) == (564, 513, 51)
    assert [e.key for e in report.having("summed channels")] == ["patch_embed.proj.weight"]
    tables = {f"blocks.{n}.attn.rel_pos_{axis}" for n in range(24) for axis in ("freq", "time")}
    assert {e.key for e in report.having("resized")} == tables
    assert [e.key for e in report.having("initialised")] == ["head.fc.weight", "head.fc.bias"]
    assert [e.source_keys for e in report.having("dropped by rule")] == [
        ("head.projection.weight",),
        ("head.projection.bias",),
    ]
    assert torch.equal(model.head.fc.weight, before)
    table = source["blocks.21.attn.rel_pos_w"]
    expected = F.interpolate(table.T[None], size=127, mode="linear")[0].T
    assert table.shape[0] == 27
    assert torch.equal(model.blocks[21].attn.rel_pos_time, expected)
    assert_complete(report, model, source)


def test_timm_and_fair_names_give_the_same_weights() -> None:
    source = mvitv2().state_dict()
    from_timm, from_fair = mast(in_chans=1, input_size=(64, 96)), mast(in_chans=1, input_size=(64, 96))
    load_pretrained(from_timm, source)
    load_pretrained(from_fair, as_fair(source, (1, 2, 1, 1)))
    assert weights_sha256(from_timm) == weights_sha256(from_fair)


def test_tables_keep_frequency_and_time_apart() -> None:
    source = mvitv2().state_dict()
    model = mast(input_size=(64, 96), in_chans=1)
    report = load_pretrained(model, source)
    first = model.blocks[0].attn
    assert torch.equal(first.rel_pos_freq, source["stages.0.blocks.0.attn.rel_pos_h"])
    assert {e.key.rsplit("_", 1)[1] for e in report.having("resized") if e.key} == {"time"}


@pytest.mark.parametrize("strides", [((2, 2), (2, 2), (1, 2)), ((2, 2), (1, 1), (1, 1)), ((1, 1),) * 3])
def test_pooling_ablations_load(strides: Any) -> None:
    depths = (1, 2, 1, 2)
    source = mvitv2(depths=depths).state_dict()
    model = mast(pool_strides=strides, depths=depths)
    report = load_pretrained(model, source)
    assert {e.action for e in report.entries} == {"matched", "resized"}
    assert all("rel_pos" in e.key for e in report.having("resized") if e.key)
    assert logits(model, torch.randn(1, 3, 64, 64)).isfinite().all()


def test_video_kernels_of_one_frame_are_squeezed() -> None:
    source = as_fair(mvitv2().state_dict(), (1, 2, 1, 1))
    video = {key: t.unsqueeze(2) if t.ndim == 4 else t for key, t in source.items()}
    flat, squeezed = mast(), mast()
    load_pretrained(flat, source)
    assert load_pretrained(squeezed, video).adapted == 0
    assert weights_sha256(flat) == weights_sha256(squeezed)
    video["patch_embed.proj.weight"] = video["patch_embed.proj.weight"].repeat(1, 1, 2, 1, 1)
    with pytest.raises(CheckpointError, match=r"patch_embed.proj.weight"):
        load_pretrained(mast(), video)


def test_weights_with_a_class_token_are_refused() -> None:
    """FAIR's residual pooling leaves the token out and timm's does not; the ImageNet-1K weights have none."""
    source = mvitv2().state_dict() | {"cls_token": torch.zeros(1, 1, 8)}
    with pytest.raises(CheckpointError, match="surplus 'cls_token'"):
        load_pretrained(mast(), source)


# --- What is refused


def _without(key: str) -> Callable[[StateDict], StateDict]:
    return lambda sd: {k: t for k, t in sd.items() if k != key}


def _with(key: str, tensor: Tensor) -> Callable[[StateDict], StateDict]:
    return lambda sd: sd | {key: tensor}


@pytest.mark.parametrize(
    ("family", "edit", "message"),
    [
        ("ast", _without("blocks.1.norm2.bias"), "nothing for 'blocks.1.norm2.bias'"),
        ("ast", _without("dist_token"), "nothing for 'dist_token'"),
        ("ast", _without("pos_embed"), "nothing for 'pos_embed'"),
        ("ast", _with("blocks.2.norm1.bias", torch.zeros(WIDTH)), "surplus 'blocks.2.norm1.bias'"),
        ("ast", _with("norm.weight", torch.zeros(9)), r"'norm.weight' is \(9,\), the model needs \(32,\)"),
        ("ast", _with("pos_embed", torch.zeros(1, 2 + 5, WIDTH)), "'pos_embed' has 5 patches of unknown layout"),
        ("ast", _with("pos_embed", torch.zeros(2 + 576, WIDTH)), "'pos_embed' is"),
        ("ast", _with("pos_embed", torch.zeros(1, 2 + 576, 9)), "'pos_embed' is"),
        ("ast", _with("norm.weight", torch.tensor([torch.nan, *[1.0] * (WIDTH - 1)])), "'norm.weight' holds NaN"),
        ("ast", _with("norm.weight", torch.ones(WIDTH, dtype=torch.int8)), "'norm.weight' is torch.int8"),
        ("ast", _with("patch_embed.proj.weight", torch.zeros(WIDTH, 2, 16, 16)), "'patch_embed.proj.weight' is"),
        ("mast", _without("stages.1.blocks.1.attn.qkv.weight"), "nothing for 'blocks.2.attn.qkv.weight'"),
        ("mast", _without("head.fc.bias"), "nothing for 'head.fc.bias'"),
        ("mast", _with("head.fc.bias", torch.zeros(9)), r"'head.fc.weight', 'head.fc.bias' have shapes"),
        ("mast", _with("stages.1.blocks.2.norm1.bias", torch.zeros(8)), "surplus 'stages.1.blocks.2.norm1.bias'"),
        ("mast", _with("blocks.0.norm1.bias", torch.zeros(8)), "both become 'blocks.0.norm1.bias'"),
        ("mast", _with("stages.0.blocks.0.attn.rel_pos_h", torch.zeros(31, 9)), "rel_pos_h' is"),
    ],
)
def test_a_key_that_does_not_fit_is_named_and_the_model_stays_as_it_was(family: str, edit: Any, message: str) -> None:
    model, source = (ast(), deit()) if family == "ast" else (mast(), mvitv2())
    before = weights_sha256(model)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_pretrained(model, edit(source.state_dict()))
    assert "\n" not in str(caught.value)
    assert weights_sha256(model) == before


def test_weights_of_the_other_model_are_refused() -> None:
    with pytest.raises(CheckpointError, match="deit weights fit AST, not MAST"):
        load_pretrained(mast(), deit().state_dict())
    with pytest.raises(CheckpointError, match="mvitv2-timm weights fit MAST, not AST"):
        load_pretrained(ast(), mvitv2().state_dict())
    with pytest.raises(CheckpointError, match="ours weights fit MAST, not AST"):
        load_pretrained(ast(), mast().state_dict())
    with pytest.raises(CheckpointError, match="source_grid is for AST"):
        load_pretrained(mast(), mvitv2().state_dict(), source_grid=(2, 2))
    with pytest.raises(CheckpointError, match="build the model with create_model"):
        load_pretrained(nn.Linear(2, 2), mvitv2().state_dict())


def test_unknown_format_shows_its_keys() -> None:
    with pytest.raises(CheckpointError, match=r"unknown format with keys 'conv1.weight', 'fc.bias'"):
        detect_format({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)})


# --- Reading files


@pytest.mark.parametrize("wrapper", [None, "model", "model_state", "state_dict"])
def test_torch_files_are_unwrapped_and_hashed(tmp_path: Path, wrapper: str | None) -> None:
    weights = {"module.a.weight": torch.arange(3.0), "module.a.bias": torch.ones(1)}
    path = tmp_path / "weights.pyth"
    torch.save(weights if wrapper is None else {wrapper: weights, "epoch": 3, "cfg": "TRAIN: ..."}, path)
    state_dict, sha256 = read_state_dict(path)
    assert list(state_dict) == ["a.weight", "a.bias"]
    assert torch.equal(state_dict["a.weight"], torch.arange(3.0))
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.arange(3.0)}, path)
    assert torch.equal(read_state_dict(path)[0]["a"], torch.arange(3.0))


def _torch_bytes(content: Any, tmp_path: Path) -> bytes:
    path = tmp_path / "content"
    torch.save(content, path)
    return path.read_bytes()


def test_unusable_files_say_what_they_are(tmp_path: Path) -> None:
    optimiser = torch.optim.Adam([nn.Parameter(torch.zeros(2))]).state_dict()
    weights = _torch_bytes({"a": torch.zeros(100)}, tmp_path)
    cases = {
        "empty.pth": (b"", "is empty"),
        "truncated.pth": (weights[: len(weights) // 2], "corrupt"),
        "noise.pth": (bytes(range(256)), "corrupt"),
        "noise.safetensors": (bytes(range(256)), "corrupt"),
        "page.pth": (b"<!DOCTYPE html>", "is a web page"),
        "pointer.bin": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        "code.pth": (_torch_bytes({"a": fractions.Fraction(1, 2)}, tmp_path), "pickled code, which is never run"),
        "adam.pth": (_torch_bytes(optimiser, tmp_path), "state of an optimiser"),
        "best_optim_state.pth": (weights, "state of an optimiser"),
        "numbers.pth": (_torch_bytes({"a": 1, "b": torch.zeros(1)}, tmp_path), "'a' is no tensor"),
        "nothing.pth": (_torch_bytes({}, tmp_path), "it is empty"),
        "tensor.pth": (_torch_bytes(torch.zeros(2), tmp_path), "holds a Tensor"),
        "weights.npz": (weights, "unknown suffix"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as caught:
            read_state_dict(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no such file"):
        read_state_dict(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match=r"is a folder: .*model.safetensors"):
        read_state_dict(tmp_path)


# --- By name


def test_names_point_where_timm_points() -> None:
    for model, name in ((AST, "deit_base_distilled_patch16_384.fb_in1k"), (MAST, "mvitv2_base.fb_in1k")):
        cfg, published = timm.get_pretrained_cfg(name), model.published["imagenet"]
        assert (published.repo_id, published.url) == (cfg.hf_hub_id, cfg.url)


def test_imagenet_goes_through_the_hub_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mvitv2_base: StateDict, mast_base: Any
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(mvitv2_base, path)
    asked = []

    def local_file(repo_id: str, filename: str) -> str:
        asked.append((repo_id, filename))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", local_file)
    report = load_by_name(mast_base, "imagenet")
    assert asked == [("timm/mvitv2_base.fb_in1k", "model.safetensors")]
    assert (report.format, report.adapted, report.source) == ("mvitv2-timm", 51, str(path))
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_without_a_network_the_message_says_where_to_get_the_file(
    monkeypatch: pytest.MonkeyPatch, mast_base: Any
) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(repo_id: str, filename: str) -> str:
        raise LocalEntryNotFoundError("no connection\nand more lines")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(CheckpointError, match=r"no connection\).*MViTv2_B_in1k.pyth.*--weights PATH") as caught:
        load_by_name(mast_base, "imagenet")
    assert "\n" not in str(caught.value)


def test_names_that_do_not_fit_are_refused_before_any_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: Any) -> str:
        raise AssertionError("downloads")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", forbidden)
    with pytest.raises(CheckpointError, match="embed_dim 96, the model 24: use mast_base"):
        load_by_name(create_model("mast_tiny"), "imagenet")
    with pytest.raises(CheckpointError, match="embed_dim 768, the model 32: use ast_base"):
        load_by_name(ast(), "audioset")
    with pytest.raises(CheckpointError, match="no such published weights for MAST: use 'imagenet'"):
        load_by_name(create_model("mast_debug"), "audioset")
    with pytest.raises(CheckpointError, match="no such published weights for AST: use 'imagenet', 'audioset'"):
        load_by_name(ast(), "imagnet")


# --- Our own checkpoints

FRONT_END = {"sample_rate_hz": 16000, "mels": 64, "mean": -4.2677393, "std": 4.5689974}


def save(path: Path, model: nn.Module, name: str, **overrides: Any) -> None:
    labels = {"label": [f"class {i}" for i in range(3)]}
    save_checkpoint(path, model, name, **{"front_end": FRONT_END, "labels": labels, "multilabel": False, **overrides})


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_own_checkpoint_rebuilds_the_model_and_its_description(tmp_path: Path, name: str) -> None:
    model = randomised(create_model(name, num_classes=3, input_size=(64, 96), drop_path_rate=0.1))
    path = tmp_path / "runs" / "best.safetensors"
    save(path, model, name, extra={"epoch": 4})
    loaded = load_checkpoint(path)
    x = torch.randn(2, 1, 64, 96)
    assert torch.equal(logits(loaded.model, x), logits(model, x))
    assert loaded.config == model.config
    assert (loaded.name, loaded.front_end, loaded.metadata) == (name, FRONT_END, {"epoch": 4})
    assert (loaded.labels, loaded.multilabel) == ({"label": ["class 0", "class 1", "class 2"]}, False)
    assert (loaded.report.format, loaded.report.adapted) == ("ours", 0)
    assert weights_sha256(loaded.model) == weights_sha256(model)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_own_checkpoint_takes_another_input_size(tmp_path: Path, name: str) -> None:
    model = randomised(create_model(name, num_classes={"verb": 2, "noun": 1}, input_size=(64, 96)))
    path = tmp_path / "best.safetensors"
    save(path, model, name, labels={"verb": ["cut", "wash"], "noun": ["onion"]}, multilabel=True)
    loaded = load_checkpoint(path, input_size=(96, 64))
    outputs = loaded.model(torch.randn(1, 1, 96, 64))
    assert {head: tuple(y.shape) for head, y in outputs.items()} == {"verb": (1, 2), "noun": (1, 1)}
    resized = [e.key for e in loaded.report.having("resized")]
    assert resized
    assert all("pos" in key for key in resized if key)
    if name == "ast_debug":  # 5 x 9 patches and 9 x 5: only the file tells them apart
        expected = resize_position_embedding(model.pos_embed, (5, 9), (9, 5))
        assert torch.equal(loaded.model.get_parameter("pos_embed"), expected)


def test_own_checkpoint_serves_as_pretrained_weights_for_other_classes_and_sizes(tmp_path: Path) -> None:
    model = randomised(create_model("ast_debug", num_classes=3, input_size=(64, 96)))
    path = tmp_path / "best.safetensors"
    save(path, model, "ast_debug")
    student = create_model("ast_debug", num_classes=11, input_size=(96, 64))
    report = load_pretrained(student, path)
    assert torch.equal(student.pos_embed, resize_position_embedding(model.pos_embed, (5, 9), (9, 5)))
    assert torch.equal(student.blocks[1].mlp.fc1.weight, model.blocks[1].mlp.fc1.weight)
    assert {e.key for e in report.having("initialised")} >= {"head.fc.weight", "head.fc.bias"}
    assert len(report.having("dropped by rule")) == 4


def test_an_interrupted_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("ast_debug", num_classes=3, input_size=(64, 96))
    path = tmp_path / "best.safetensors"
    save(path, model, "ast_debug")
    before = path.read_bytes()

    def full_disk(*args: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device\)"):
        save(path, randomised(model), "ast_debug")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"labels": {"label": ["a", "b"]}}, "3 classes and 2 labels"),
        ({"labels": {}}, "one head, labels name 0"),
        ({"front_end": {"mean": float("nan")}}, "not JSON"),
        ({"front_end": {"mean": torch.zeros(1)}}, "not JSON"),
    ],
)
def test_descriptions_that_do_not_fit_are_not_saved(tmp_path: Path, overrides: Any, message: str) -> None:
    model = create_model("ast_debug", num_classes=3, input_size=(64, 96))
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path / "a.safetensors", model, "ast_debug", **overrides)
    assert list(tmp_path.iterdir()) == []


def test_names_that_do_not_fit_the_model_are_not_saved(tmp_path: Path) -> None:
    model = create_model("ast_debug", num_classes=3, input_size=(64, 96))
    with pytest.raises(CheckpointError, match="unknown model 'ast_huge'"):
        save(tmp_path / "a.safetensors", model, "ast_huge")
    with pytest.raises(CheckpointError, match="'mast_debug' builds no AST"):
        save(tmp_path / "a.safetensors", model, "mast_debug")
    with pytest.raises(CheckpointError, match=r"end the name in .safetensors"):
        save(tmp_path / "a.pth", model, "ast_debug")
    two_heads = create_model("ast_debug", num_classes={"verb": 3, "noun": 3}, input_size=(64, 96))
    with pytest.raises(CheckpointError, match="labels of 'label' for heads 'verb', 'noun'"):
        save(tmp_path / "a.safetensors", two_heads, "ast_debug")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    save(path, create_model("ast_debug", num_classes=3, input_size=(64, 96)), "ast_debug", extra={"epoch": 4})
    return path


def with_description(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The file again, with the description that `change` makes of its description."""
    with safe_open(path, framework="pt") as file:
        (name, text), *_ = file.metadata().items()
    description = json.loads(text)
    changed = change(description)
    text = changed if isinstance(changed, str) else json.dumps(description if changed is None else changed)
    altered = path.with_name("altered.safetensors")
    save_file(load_file(path), altered, metadata={name: text})
    return altered


def test_weights_without_a_description_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="does not describe its model"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["config"].update(num_classes=4), "4 classes and 3 labels"),
        (lambda d: d["config"].update(input_size=[64, 64]), "source_grid"),
        (lambda d: d["config"].update(width=32), "cannot build 'ast_debug'"),
        (lambda d: d["config"].update(depth=10**9), "cannot build 'ast_debug'"),
        (lambda d: d["config"].update(patch_stride=0), "cannot build 'ast_debug'"),
        (lambda d: d["config"].update(depth="2"), "cannot build 'ast_debug'"),
        (lambda d: d["config"].update(mlp_ratio=1e300), "cannot build 'ast_debug'"),
        (lambda d: d["config"].update(mlp_ratio=8), "'blocks.0.mlp.fc1.weight' is"),
        (lambda d: d.update(format_version=2), "not of format 1"),
        (lambda d: d.update(model_name="ast_huge"), "unknown model 'ast_huge'"),
        (lambda d: d.update(labels=["a", "b", "c"]), "damaged description .*'labels'"),
        (lambda d: d["labels"].update(label="abc"), "damaged description .*'labels of label'"),
        (lambda d: d.update(front_end=None), "damaged description .*'front_end'"),
        (lambda d: d["front_end"].update(mean=float("nan")), "damaged description .*NaN is no number"),
        (lambda d: [], "damaged description"),
        (lambda d: "{" * 100_000, "damaged description"),
        (lambda d: "9" * 5000, "damaged description"),
    ],
)
def test_a_description_that_was_altered_is_refused_in_one_line(saved: Path, change: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(with_description(saved, change))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_the_time_of_class_tokens_loads(tmp_path: Path) -> None:
    """Its config has cls_token, which was False in all of them but by choice."""
    path = tmp_path / "best.safetensors"
    model = create_model("mast_debug", num_classes=3, input_size=(32, 64))
    save(path, model, "mast_debug")
    old = with_description(path, lambda d: d["config"].update(cls_token=False))
    assert weights_sha256(load_checkpoint(old).model) == weights_sha256(model)
    with pytest.raises(CheckpointError, match="cls_token is no longer supported"):
        load_checkpoint(with_description(path, lambda d: d["config"].update(cls_token=True)))


def mutants(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Damaged copies: cut short, bytes changed, a stretch removed, doubled or exchanged; mostly near the start."""
    random = np.random.default_rng(seed)
    reach = min(len(content), 4000)
    for _ in range(count):
        data = bytearray(content)
        limit = reach if random.random() < 0.8 else len(content)
        start = int(random.integers(limit))
        stop = min(len(data), start + int(random.integers(1, 40)))
        match random.integers(5):
            case 0:
                del data[start:]
            case 1:
                for place in random.integers(start, stop, size=3):
                    data[place] = random.integers(256)
            case 2:
                del data[start:stop]
            case 3:
                data[start:start] = data[start:stop]
            case 4:
                data[start:stop] = random.permutation(np.frombuffer(data[start:stop], np.uint8)).tobytes()
        yield bytes(data)


def describe_mutants(content: bytes, path: Path, count: int, load: Callable[[Path], Any]) -> dict[str, int]:
    """Outcomes of loading damaged copies. Anything but success and CheckpointError escapes."""
    outcomes = {"read": 0, "refused": 0}
    for mutant in mutants(content, count, seed=0):
        path.write_bytes(mutant)
        try:
            load(path)
            outcomes["read"] += 1
        except CheckpointError as error:
            outcomes["refused"] += 1
            assert "\n" not in str(error) and str(error).startswith(str(path)), error
    return outcomes


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_damaged_checkpoints_are_read_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "best.safetensors"
    sizes: dict[str, Any] = {"embed_dim": 4, "num_heads": 1}
    save(path, create_model(name, num_classes=3, input_size=(32, 32), **sizes), name, extra={"epoch": 4})
    outcomes = describe_mutants(path.read_bytes(), path, 200, load_checkpoint)
    assert outcomes["refused"] > 100


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_torch_files_are_read_or_refused_in_one_line(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    state_dict = create_model("ast_debug", num_classes=3, input_size=(16, 16), embed_dim=4, num_heads=1).state_dict()
    torch.save(state_dict, path, _use_new_zipfile_serialization=zipped)
    outcomes = describe_mutants(path.read_bytes(), path, 150, read_state_dict)
    assert outcomes["refused"] > 50


# --- Report and hash


def test_report_is_plain_json_and_its_summary_names_what_is_not_the_source_s() -> None:
    report = load_pretrained(create_model("ast_debug", num_classes=5), official_ast())
    summary = report.summary()
    assert "\n" not in summary
    assert summary.startswith(f"state dict [ast-official]: {report.matched} matched, ")
    assert "4 initialised ('head_norm.weight', " in summary
    assert "8 dropped by rule ('v.head.weight', " in summary
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["counts"] == {"matched": report.matched, "initialised": 4, "dropped by rule": 8}
    assert plain["adapted"] == 4
    assert len(plain["entries"]) == len(report.entries)


def test_weights_hash_depends_on_values_names_and_types_alone() -> None:
    model = create_model("mast_debug", num_classes=3, input_size=(64, 64))
    twin = create_model("mast_debug", num_classes=3, input_size=(64, 64))
    assert weights_sha256(model) != weights_sha256(twin)
    twin.load_state_dict(model.state_dict())
    assert weights_sha256(model) == weights_sha256(twin.to(memory_format=torch.channels_last))
    assert weights_sha256(model) != weights_sha256(twin.bfloat16())
    a, b = nn.Module(), nn.Module()
    a.x, b.y = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    assert weights_sha256(a) != weights_sha256(b)
