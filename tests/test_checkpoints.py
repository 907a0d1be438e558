"""Our checkpoints rebuild the model and its description; damaged ones give one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from make_weights import (
    logits,
    randomised,
    with_description,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from models import create_model
from models.checkpoints import load_checkpoint, save_checkpoint, weights_sha256
from models.position_embedding import resize_position_embedding
from models.pretrained import load_pretrained
from models.weight_files import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread", "fixed_seed")


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


@pytest.mark.parametrize(("storage", "share", "tolerance"), [("float16", 0.5, 2e-3), ("int8", 0.25, 3e-2)])
@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_a_smaller_file_holds_nearly_the_same_model(
    tmp_path: Path, name: str, storage: str, share: float, tolerance: float
) -> None:
    model = randomised(create_model(name, num_classes=3, input_size=(64, 96)))
    whole, small = tmp_path / "whole.safetensors", tmp_path / "small.safetensors"
    save(whole, model, name)
    save(small, model, name, storage=storage)
    numbers = 4 * sum(p.numel() for p in model.parameters())
    assert small.stat().st_size - share * numbers < 0.15 * numbers  # the rest: description, names and scales
    loaded, x = load_checkpoint(small).model, torch.randn(2, 1, 64, 96)
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    reference = logits(model, x)
    assert (logits(loaded, x) - reference).abs().max() < tolerance * reference.abs().max()
    other = create_model(name, num_classes=3, input_size=(64, 96))
    load_pretrained(other, small)
    assert torch.equal(logits(other.eval(), x), logits(loaded, x))


def test_a_small_file_without_its_scales_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save(path, create_model("ast_debug", num_classes=3, input_size=(64, 96)), "ast_debug", storage="int8")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = {key: tensor for key, tensor in load_file(path).items() if not key.endswith("head.fc.weight.scale")}
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"'head.fc.weight' has no scale for each row: get the whole file"):
        load_checkpoint(path)


def test_an_unknown_storage_is_one_line(tmp_path: Path) -> None:
    model = create_model("ast_debug", num_classes=3, input_size=(64, 96))
    with pytest.raises(CheckpointError, match="'int4': choose one of float32, float16, int8"):
        save(tmp_path / "small.safetensors", model, "ast_debug", storage="int4")


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_how_attention_is_computed_is_no_property_of_a_file(tmp_path: Path, name: str) -> None:
    save(tmp_path / "m.safetensors", create_model(name, num_classes=3, input_size=(64, 96), attention="sdpa"), name)
    assert load_checkpoint(tmp_path / "m.safetensors").model.config.attention == "auto"


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
    if name == "ast_debug":  # 5 x 9 patches and 9 x 5: only the description distinguishes them
        expected = resize_position_embedding(model.pos_embed, (5, 9), (9, 5))
        assert torch.equal(loaded.model.get_parameter("pos_embed"), expected)


def test_own_checkpoint_serves_as_weights_for_other_classes_and_sizes(tmp_path: Path) -> None:
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
        ({"front_end": {"mels": torch.zeros(2)}}, "not JSON"),
        ({"front_end": {"mels": 128, "frames": 96}}, "makes 128 mels x 96 frames, the model takes 64 x 96"),
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
        (lambda d: d["config"].update(norm_eps="1e-6"), "cannot build 'ast_debug' .*norm_eps must be a finite number"),
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
    model = create_model("mast_debug", num_classes=3, input_size=(64, 96))
    save(path, model, "mast_debug")
    old = with_description(path, lambda d: d["config"].update(cls_token=False))
    assert weights_sha256(load_checkpoint(old).model) == weights_sha256(model)
    with pytest.raises(CheckpointError, match="cls_token is no longer supported"):
        load_checkpoint(with_description(path, lambda d: d["config"].update(cls_token=True)))
