"""DeiT's and AST's published weights become ours without changing what the model computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from make_weights import (
    DEPTH,
    HEADS,
    WIDTH,
    StateDict,
    assert_complete,
    ast,
    deit,
    logits,
    official_ast,
    randomised,
)
from torch import Tensor, nn

from models import create_model
from models.position_embedding import resize_position_embedding
from models.pretrained import load_pretrained
from models.weight_files import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread", "fixed_seed")


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
    for text in ("{}", "[]", "{", json.dumps(sizes | {"time_stride": 0}), json.dumps(sizes | {"max_length": -9})):
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
