"""Sharing a model: the hub's mixin, its card, and the way to transformers and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from make_audio import RATE, tone
from make_models import make_model
from make_records import make_record

from models.checkpoints import save_checkpoint
from models.pretrained import load_pretrained
from models.transformers_ast import transformers_state
from reproduce import Classifier, load_classifier
from reproduce.__main__ import main
from reproduce.audio.spec import AudioSpec
from reproduce.errors import InputError
from reproduce.records.store import append_record

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = AudioSpec(mels=32, frames=96, mean=-6.6, std=5.4)
LABELS = ["low", "middle", "high"]
SOUND = tone(300.0, 0.9)


def save(path: Path, name: str, spec: AudioSpec = SPEC, **extra: Any) -> Path:
    model = make_model(name, num_classes=len(LABELS), input_size=(SPEC.mels, SPEC.frames))
    save_checkpoint(
        path, model, name, front_end=spec.to_dict(), labels={"label": LABELS}, multilabel=False, extra=extra
    )
    return path


@pytest.fixture(params=["ast_debug", "mast_debug"])
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save(tmp_path / "0123456789abcdef.safetensors", request.param)


# --- the hub ----------------------------------------------------------------------------------------------------------


def test_a_saved_folder_gives_the_same_classifier(weights: Path, tmp_path: Path) -> None:
    clf = load_classifier(weights, "cpu")
    clf.save_pretrained(tmp_path / "shared")
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {"model.safetensors", "config.json", "README.md"}
    for again in (Classifier.from_pretrained(tmp_path / "shared", device="cpu"), load_classifier(tmp_path / "shared")):
        assert isinstance(again, Classifier)
        assert again.labels == clf.labels and again.trained.front_end == SPEC
        assert np.array_equal(again.embed(SOUND, RATE), clf.embed(SOUND, RATE))
    config = json.loads((tmp_path / "shared/config.json").read_text())
    assert config["library"] == "mast-vs-ast" and config["labels"] == {"label": LABELS}


def test_push_to_hub_uploads_these_files(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}

    class Created:
        repo_id = "user/my-model"

    def upload_folder(self: object, **arguments: Any) -> str:
        sent.update(arguments, files=sorted(path.name for path in Path(arguments["folder_path"]).iterdir()))
        return "https://huggingface.co/user/my-model/commit/1"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi.create_repo", lambda self, **arguments: Created())
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi.upload_folder", upload_folder)
    url = load_classifier(weights, "cpu").push_to_hub("user/my-model", model_card_kwargs={"licence": "cc-by-4.0"})
    assert url.endswith("/commit/1") and sent["repo_id"] == "user/my-model"
    assert sent["files"] == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("own", [False, True], ids=["named", "own"])
def test_the_card_states_data_licences_scores_and_record(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = make_record("mast_debug")
    weights = save(tmp_path / f"{record.key}.safetensors", "mast_debug", experiment=dict(record.experiment))
    records = tmp_path / ("runs/records" if own else "records")
    append_record(records, record)
    out = tmp_path / "shared"
    arguments = ["--format", "hub", "--out", str(out), *([] if own else ["--records", str(records)])]
    licences = ["--licence", "cc-by-4.0", "--data-licence", "CC BY-NC 3.0 (ESC-50)"]
    assert main(["export", str(weights), *arguments, *licences]) == 0
    card = ModelCard.load(out / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "mast-vs-ast"
    assert "audio-classification" in card.data.tags
    for text in ("Weights: cc-by-4.0", "CC BY-NC 3.0 (ESC-50)", record.key, "low, middle, high"):
        assert text in card.text
    assert f"- Data set: {record.experiment['dataset']}" in card.text
    assert f"| top1 | {record.metrics['top1']:.2f} |" in card.text
    # The description keeps the scores: a model that was loaded from the hub can be shared again.
    load_classifier(out, "cpu").save_pretrained(tmp_path / "again")
    assert f"| top1 | {record.metrics['top1']:.2f} |" in (tmp_path / "again/README.md").read_text()


def test_a_card_without_a_record_says_so(weights: Path, tmp_path: Path) -> None:
    load_classifier(weights, "cpu").save_pretrained(tmp_path / "shared")
    card = (tmp_path / "shared/README.md").read_text()
    assert "No record of this run was at hand" in card and "do not say what they were trained on" in card


# --- transformers -----------------------------------------------------------------------------------------------------


def test_ast_goes_to_transformers_and_back(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    weights = save(tmp_path / "a.safetensors", "ast_debug")
    assert main(["export", str(weights), "--format", "transformers", "--out", str(tmp_path / "hf")]) == 0
    ours = load_classifier(weights, "cpu")
    theirs = transformers.ASTForAudioClassification.from_pretrained(tmp_path / "hf").eval()
    x = torch.randn(2, 1, SPEC.mels, SPEC.frames, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = ours.trained.model(x)
        assert torch.allclose(theirs(x[:, 0].mT).logits, expected, atol=1e-5)
    assert theirs.config.id2label == dict(enumerate(LABELS))
    back = load_classifier(tmp_path / "hf", "cpu")
    assert back.labels == tuple(LABELS) and back.trained.front_end == SPEC and not back.trained.multilabel
    with torch.inference_mode():
        assert torch.allclose(back.trained.model(x), expected, atol=1e-5)
    extractor = transformers.ASTFeatureExtractor.from_pretrained(tmp_path / "hf")
    assert (extractor.mean, extractor.std, extractor.max_length) == (SPEC.mean, SPEC.std, SPEC.frames)


def test_a_folder_that_transformers_wrote_is_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ASTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_length=96,
        num_mel_bins=32,
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )
    theirs = transformers.ASTForAudioClassification(config).eval()
    theirs.save_pretrained(tmp_path / "hf")
    ours = load_classifier(tmp_path / "hf", "cpu")
    x = torch.randn(2, 32, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(ours.trained.model(x[:, None]), theirs(x.mT).logits, atol=1e-5)
    assert ours.labels == tuple(LABELS)


def test_every_weight_survives_the_way_there_and_back() -> None:
    model = make_model("ast_debug", num_classes=3, input_size=(32, 96))
    again = make_model("ast_debug", seed=1, num_classes=3, input_size=(32, 96))
    report = load_pretrained(again, transformers_state(model), source_grid=model.config.grid)
    assert report.matched == len(model.state_dict())
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "no such file"),
        ({"hidden_act": "relu"}, "GELU are needed"),
        ({"hidden_size": "wide"}, "not an AST that can be built"),
        ({"hidden_size": 64}, "the model needs"),
        ({"id2label": None}, "not an AST that can be built"),
    ],
)
def test_a_folder_that_is_no_such_ast_is_one_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    weights = save(tmp_path / "a.safetensors", "ast_debug")
    assert main(["export", str(weights), "--format", "transformers", "--out", str(tmp_path / "hf")]) == 0
    config = tmp_path / "hf/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    if "model_type" in change:
        (tmp_path / "hf/model.safetensors").unlink()
    with pytest.raises(InputError, match=message) as error:
        load_classifier(tmp_path / "hf")
    assert "\n" not in str(error.value)


def test_a_spectrogram_that_transformers_does_not_compute_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for field, value in (("frame_shift_ms", 40.0), ("low_hz", 50.0)):
        weights = save(tmp_path / "a.safetensors", "ast_debug", replace(SPEC, **{field: value}))
        assert main(["export", str(weights), "--format", "transformers", "--out", str(tmp_path / "hf")]) == 2
        error = capsys.readouterr().err
        assert f"has {field} {value:g}, that of transformers' ASTFeatureExtractor" in error and error.count("\n") == 1
        assert not (tmp_path / "hf/model.safetensors").exists()


def test_mast_has_no_place_in_transformers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = save(tmp_path / "a.safetensors", "mast_debug")
    assert main(["export", str(weights), "--format", "transformers", "--out", str(tmp_path / "hf")]) == 2
    assert "only AST" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["export", str(weights), "--format", "hub", "--out", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err
