"""A trained model on sounds and on lists: what it predicts, how it is scored, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from make_audio import RATE, cut_short, tone
from make_runs import RECIPE, SPEC, make_model, make_store, run
from make_weights import randomised

from models import create_model
from models.checkpoints import save_checkpoint
from reproduce.__main__ import main
from reproduce.data.waveform_store import WaveformStore
from reproduce.datasets import read_dataset
from reproduce.datasets.audioset_classes import audioset_classes
from reproduce.datasets.readers.audioset_lists import read_classes
from reproduce.errors import InputError
from reproduce.evaluation.inference import (
    InferenceOptions,
    TrainedModel,
    evaluate,
    find_audio_files,
    load_trained_model,
    predict_files,
    top_classes,
)
from reproduce.records.record import RunRecord

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = InferenceOptions(device="cpu")
CLASSES = ("low", "high")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tones")


@pytest.fixture(scope="module")
def store(folder: Path) -> WaveformStore:
    return make_store(folder / "data", 16, 12)


@pytest.fixture(scope="module")
def record(store: WaveformStore, folder: Path) -> RunRecord:
    return run(store, folder, "mast_debug", replace(RECIPE, epochs=4, lr=3e-3))


@pytest.fixture(scope="module")
def trained(record: RunRecord, folder: Path) -> TrainedModel:
    return load_trained_model(str(folder / f"runs/{record.key}.safetensors"), "cpu")


def multilabel_model(folder: Path, *classes: str) -> TrainedModel:
    path = folder / "multilabel.safetensors"
    model = make_model("ast_debug")
    save_checkpoint(
        path, model, "ast_debug", front_end=SPEC.to_dict(), labels={"label": list(classes)}, multilabel=True
    )
    return load_trained_model(str(path), "cpu")


def write_list(folder: Path, rows: list[tuple[str, str]]) -> Path:
    """A CSV of sounds in `folder`: (name, labels), all of the test split."""
    for i, (name, labels) in enumerate(rows):
        hz = 300.0 if "low" in labels else 3000.0
        soundfile.write(folder / name, tone(hz, seed=i), RATE)
    path = folder / "list.csv"
    path.write_text("path,label,split\n" + "".join(f"{name},{labels},test\n" for name, labels in rows))
    return path


# --- predictions ----------------------------------------------------------------------------------------------------


def test_a_loaded_model_predicts_files_as_the_run_predicted_its_test_clips(
    trained: TrainedModel, store: WaveformStore, record: RunRecord, folder: Path
) -> None:
    assert (trained.labels, trained.multilabel, trained.trained_on) == ({"label": CLASSES}, False, ("1",))
    sounds = [store.index.clip(i).path for i in store.index.positions_of("2")]
    used, predictions = predict_files(trained, sounds, CPU)
    assert used == sounds
    with np.load(folder / "records" / str(record.predictions)) as stored:
        assert np.allclose(predictions.logits["label"], stored["logits_label"], atol=1e-4)
        assert np.allclose(predictions.embeddings, stored["embeddings"], atol=1e-4)
    for row, logits in zip(top_classes(trained, predictions, 1), predictions.logits["label"], strict=True):
        ((name, chance),) = row["label"]
        assert name == CLASSES[int(logits.argmax())]
        assert chance == pytest.approx(torch.from_numpy(logits).softmax(dim=0).max().item(), abs=1e-6)


def test_torchaudios_front_end_predicts_the_same(
    record: RunRecord, folder: Path, store: WaveformStore, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torchaudio.compliance.kaldi")
    model, sound = str(folder / f"runs/{record.key}.safetensors"), str(store.index.clip(0).path)
    printed = []
    for front_end in ("batched", "torchaudio"):
        command = ["predict", sound, "--model", model, "--front-end", front_end, "--format", "json"]
        assert main([*command, "--device", "cpu"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        printed.append({best["label"]: best["probability"] for best in row["label"]})
    assert printed[0] == pytest.approx(printed[1], abs=1e-4)


def test_every_batch_is_computed_once(trained: TrainedModel, store: WaveformStore) -> None:
    sounds = [store.index.clip(i).path for i in range(10)]
    calls: list[int] = []
    handle = trained.model.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    _, predictions = predict_files(trained, sounds, InferenceOptions(device="cpu", batch_size=4))
    handle.remove()
    assert len(calls) == 3
    assert predictions.timed == 6  # the first batch warms up


def test_in_bfloat16_the_products_are_narrow_and_the_outputs_float32(
    trained: TrainedModel, store: WaveformStore
) -> None:
    sounds = [store.index.clip(i).path for i in range(12)]
    dtypes: list[torch.dtype] = []
    handle = trained.model.blocks[0].attn.proj.register_forward_hook(lambda *args: dtypes.append(args[2].dtype))
    _, narrow = predict_files(trained, sounds, replace(CPU, precision="bfloat16"))
    _, plain = predict_files(trained, sounds, CPU)
    handle.remove()
    assert dtypes == [torch.bfloat16, torch.float32]
    assert narrow.logits["label"].dtype == narrow.embeddings.dtype == np.float32
    assert not np.array_equal(narrow.embeddings, plain.embeddings)
    assert np.abs(narrow.embeddings - plain.embeddings).max() < 0.05 * np.abs(plain.embeddings).max()
    assert np.array_equal(narrow.logits["label"].argmax(axis=1), plain.logits["label"].argmax(axis=1))


def test_a_broken_sound_is_named_and_the_others_predicted(trained: TrainedModel, tmp_path: Path) -> None:
    good, broken = tmp_path / "good.wav", tmp_path / "broken.wav"
    for path in (good, broken):
        soundfile.write(path, tone(300.0), RATE)
    cut_short(broken)
    used, predictions = predict_files(trained, find_audio_files([tmp_path]), CPU)
    assert used == [good]
    assert [problem.reason for problem in predictions.problems] == ["truncated"]


def test_an_output_that_is_not_finite_is_a_problem_and_not_a_result(
    trained: TrainedModel, store: WaveformStore
) -> None:
    sounds = [store.index.clip(i).path for i in range(3)]
    calls: list[int] = []

    def spoil(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return output * torch.nan if len(calls) == 2 else output

    handle = trained.model.blocks[0].register_forward_hook(spoil)
    used, predictions = predict_files(trained, sounds, InferenceOptions(device="cpu", batch_size=1))
    handle.remove()
    assert used == [sounds[0], sounds[2]]
    (problem,) = predictions.problems
    assert problem.clip_id == str(sounds[1]) and "the model's output is not finite" in problem.message
    assert all(np.isfinite(values).all() for values in (predictions.embeddings, *predictions.logits.values()))


# --- scores ---------------------------------------------------------------------------------------------------------


def test_evaluation_gives_the_metrics_of_the_runs_record(
    trained: TrainedModel, store: WaveformStore, record: RunRecord
) -> None:
    metrics, predictions = evaluate(trained, store.index.where_split("2"), CPU)
    assert len(predictions) == 12
    for name in ("top1", "map", "clips", "correct"):
        assert metrics[name] == pytest.approx(record.metrics[name])


def test_a_list_may_lack_classes_of_the_model_and_order_them_otherwise(trained: TrainedModel, tmp_path: Path) -> None:
    both = write_list(tmp_path, [(f"{i}.wav", ("low", "high")[i % 2]) for i in range(6)])
    index = read_dataset("csv", both)
    assert index.classes["label"] == ("high", "low")  # sorted, and the model's are not
    whole, predictions = evaluate(trained, index, CPU)
    right = predictions.logits["label"].argmax(axis=1) == np.array([0, 1] * 3)
    assert whole["top1"] == pytest.approx(100 * right.mean())
    one = write_list(tmp_path, [(f"{i}.wav", "high") for i in range(4)])
    metrics, predictions = evaluate(trained, read_dataset("csv", one), CPU)
    assert metrics["top1"] == pytest.approx(100 * (predictions.logits["label"].argmax(axis=1) == 1).mean())


def test_a_class_that_the_model_lacks_is_named(trained: TrainedModel, tmp_path: Path) -> None:
    path = write_list(tmp_path, [("a.wav", "low"), ("b.wav", "howl")])
    with pytest.raises(InputError, match="the model has no class 'howl' of head 'label'") as error:
        evaluate(trained, read_dataset("csv", path), CPU)
    assert "\n" not in str(error.value)


def test_a_multi_label_model_is_scored_by_map_whatever_the_list_holds(tmp_path: Path) -> None:
    model = multilabel_model(tmp_path, "low", "high")
    for labels in ("low", "low;high"):
        path = write_list(tmp_path, [("a.wav", labels), ("b.wav", "high"), ("c.wav", "low")])
        metrics, _ = evaluate(model, read_dataset("csv", path), CPU)
        assert "top1" not in metrics
        assert {"map", "mauc", "d_prime"} <= set(metrics)


def test_a_metric_that_is_not_defined_is_none_so_that_json_has_no_nan(tmp_path: Path) -> None:
    model = multilabel_model(tmp_path, "low", "high")
    path = write_list(tmp_path, [("a.wav", "low"), ("b.wav", "low")])  # no class has both positives and negatives
    metrics, _ = evaluate(model, read_dataset("csv", path), CPU)
    assert metrics["mauc"] is None
    json.dumps(metrics, allow_nan=False)


def test_clips_of_several_labels_are_refused_for_a_model_that_gives_one(trained: TrainedModel, tmp_path: Path) -> None:
    path = write_list(tmp_path, [("a.wav", "low;high"), ("b.wav", "low")])
    with pytest.raises(InputError, match="clips with several labels"):
        evaluate(trained, read_dataset("csv", path), CPU)


# --- published weights ---


def test_published_ast_weights_name_audiosets_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights' file holds no names: without them a prediction would read "class 137"."""
    published = randomised(create_model("ast_debug"))
    monkeypatch.setattr("reproduce.evaluation.inference.create_model", lambda name: published)
    monkeypatch.setattr("reproduce.evaluation.inference.load_by_name", lambda model, name: None)
    trained = load_trained_model("audioset", "cpu")
    assert len(set(trained.labels["label"])) == 527 and trained.labels["label"][137] == "Music"
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(440.0, 1.0), RATE)
    _, predictions = predict_files(trained, [path], CPU)
    (row,) = top_classes(trained, predictions, 5)
    assert {name for name, _ in row["label"]} <= set(trained.labels["label"])


def test_audiosets_classes_are_those_of_its_own_table(annotations: Path) -> None:
    _, names = read_classes(annotations / "audioset/class_labels_indices.csv")
    assert audioset_classes() == names
