"""MViTv2's published weights become MAST's without changing what the model computes, by path and by name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from make_weights import (
    StateDict,
    as_fair,
    assert_complete,
    ast,
    logits,
    mast,
    mvitv2,
    timm,
)
from safetensors.torch import save_file

from models import AST, MAST, create_model
from models.checkpoints import weights_sha256
from models.pretrained import load_by_name, load_pretrained
from models.weight_files import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread", "fixed_seed")


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
