"""Models for other runtimes: each program computes what the model does, at any batch, and says what it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_models import make_model

from models.checkpoints import save_checkpoint
from reproduce.__main__ import main
from reproduce.audio.spec import AudioSpec
from reproduce.errors import InputError
from reproduce.evaluation import export
from reproduce.evaluation.inference import TrainedModel

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = AudioSpec(mels=32, frames=96)


def make_trained(name: str, num_classes: Any = 3) -> TrainedModel:
    model = make_model(name, num_classes=num_classes, input_size=(SPEC.mels, SPEC.frames))
    heads = {"label": num_classes} if isinstance(num_classes, int) else num_classes
    labels = {head: tuple(f"{head} {i}" for i in range(count)) for head, count in heads.items()}
    return TrainedModel(model=model, name=name, front_end=SPEC, labels=labels, multilabel=False)


def log_mels(batch: int) -> torch.Tensor:
    return torch.randn(batch, 1, SPEC.mels, SPEC.frames, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_onnx_runtime_computes_what_the_model_does(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    trained = make_trained(name)
    written = export.export_onnx(trained, tmp_path / "model.onnx")
    assert written.difference < 1e-4
    assert written.outputs == ("logits", "embedding") and written.input_shape == (1, 32, 96)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        logits, _ = session.run(None, {"log_mels": log_mels(batch).numpy()})
        with torch.inference_mode():
            assert np.allclose(logits, trained.model(log_mels(batch)).numpy(), atol=1e-4)
    description = json.loads(session.get_modelmeta().custom_metadata_map["description.json"])
    assert description["labels"] == {"label": ["label 0", "label 1", "label 2"]}
    assert AudioSpec.from_dict(description["front_end"]) == SPEC


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug"])
def test_a_torch_export_computes_what_the_model_does(name: str, tmp_path: Path) -> None:
    trained = make_trained(name)
    path = tmp_path / "model.pt2"
    assert export.export_torch(trained, path).difference < 1e-5
    extra = {"description.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    for batch in (1, 5):
        with torch.inference_mode():
            logits, embedding = program(log_mels(batch))
            assert torch.allclose(logits, trained.model(log_mels(batch)), atol=1e-5)
        assert embedding.shape == (batch, trained.model.embedding_dim)
    assert json.loads(extra["description.json"])["model"] == name


def test_every_head_is_an_output(tmp_path: Path) -> None:
    trained = make_trained("ast_debug", {"verb": 2, "noun": 4})
    assert export.export_torch(trained, tmp_path / "a.pt2").outputs == ("logits_verb", "logits_noun", "embedding")


def test_a_program_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match=r"not written: the exported ast_debug differs from the model by"):
        export.export_torch(make_trained("ast_debug"), tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs onnxruntime: pip install 'mast-vs-ast\[export\]'"):
        export.export_onnx(make_trained("ast_debug"), tmp_path / "a.onnx")


def test_a_model_that_cannot_be_exported_is_one_line(tmp_path: Path) -> None:
    trained = make_trained("ast_debug")

    def pool(tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, 0] if float(tokens.sum()) > 0 else tokens[:, 1]  # depends on the data

    trained.model.pool = pool  # type: ignore[method-assign]
    with pytest.raises(InputError, match="ast_debug: cannot be exported as torch-export") as error:
        export.export_torch(trained, tmp_path / "a.pt2")
    assert "\n" not in str(error.value)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    labels = {"label": ["low", "high"]}
    model = make_model("mast_debug", num_classes=2, input_size=(SPEC.mels, SPEC.frames))
    save_checkpoint(path, model, "mast_debug", front_end=SPEC.to_dict(), labels=labels, multilabel=False)
    return path


def test_export_prints_the_largest_difference(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.pt2"
    assert main(["export", str(weights), "--format", "torch-export", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "largest difference" in said and str(out) in said and "(batch, 1, 32, 96)" in said
    assert out.is_file()


def test_the_weights_themselves_are_never_replaced(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = weights.read_bytes()
    for out in (weights, weights.with_suffix(".txt")):
        assert main(["export", str(weights), "--format", "torch-export", "--out", str(out)]) == 2
    assert weights.read_bytes() == before
    assert "end the name of --out in .pt2" in capsys.readouterr().err
