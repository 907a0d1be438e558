"""A trained model in three lines of Python: files, arrays, lists, windows and events."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from make_audio import RATE, cut_short, tone
from make_runs import SPEC, make_model

import reproduce
from models.checkpoints import save_checkpoint
from reproduce import Classifier, load_classifier
from reproduce.errors import InputError
from reproduce.evaluation.inference import InferenceOptions, load_trained_model, predict_files

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    labels = {"label": ["low", "high"]}
    save_checkpoint(
        path, make_model("mast_debug"), "mast_debug", front_end=SPEC.to_dict(), labels=labels, multilabel=False
    )
    return path


@pytest.fixture(scope="module")
def clf(weights: Path) -> Classifier:
    return load_classifier(weights, "cpu")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(300.0, 0.9), RATE)
    return path


def test_three_lines_predict_as_the_command_does(clf: Classifier, weights: Path, sound: Path) -> None:
    said = clf.predict(sound)
    _, expected = predict_files(load_trained_model(str(weights), "cpu"), [sound], InferenceOptions(device="cpu"))
    chances = torch.from_numpy(expected.logits["label"][0]).double().softmax(0).numpy()
    assert said.probabilities == pytest.approx(chances)
    assert said.label == clf.labels[int(chances.argmax())] and said.score == pytest.approx(chances.max())
    assert said.top(2)[0] == (said.label, said.score)
    assert np.array_equal(clf.embed(str(sound)), expected.embeddings[0])
    assert (clf.labels, clf.classes, clf.sample_rate) == (("low", "high"), 2, RATE)
    assert "mast_debug, 2 classes" in repr(clf)


def test_arrays_of_any_layout_and_type_give_what_the_file_gives(clf: Classifier, sound: Path) -> None:
    samples, rate = soundfile.read(sound, dtype="float32")
    integers, _ = soundfile.read(sound, dtype="int16")
    stereo = np.stack([samples, samples], axis=1)
    expected = clf.embed(sound)
    for given in (samples, samples.astype(np.float64), integers, stereo, stereo.T, torch.from_numpy(samples)):
        assert np.allclose(clf.embed(given, rate), expected, atol=1e-4)
    assert np.allclose(clf.embed(samples.tolist(), rate), expected, atol=1e-4)
    assert np.array_equal(clf.embed(stereo[:, :1], rate), clf.embed(samples, rate))
    antiphase = np.stack([samples, -samples], axis=1)
    assert np.allclose(clf.embed(antiphase, rate), clf.embed(np.zeros_like(samples), rate))


def test_an_array_is_resampled_as_a_file_is(clf: Classifier, tmp_path: Path) -> None:
    samples = tone(300.0, 0.9, 44_100)
    soundfile.write(tmp_path / "a.wav", samples, 44_100, "FLOAT")
    assert np.allclose(clf.embed(samples, 44_100), clf.embed(tmp_path / "a.wav"), atol=1e-5)


def test_a_list_gives_a_list(clf: Classifier, sound: Path) -> None:
    samples = tone(3000.0, 0.5)
    several = clf.predict([sound, samples], RATE)
    assert [len(several), several[0].label] == [2, clf.predict(sound).label]
    assert several[1].probabilities == pytest.approx(clf.predict(samples, RATE).probabilities, abs=1e-5)
    assert clf.embed([sound, samples, samples], RATE).shape == (3, clf.embed(sound).shape[0])


def test_a_longer_sound_is_cut_with_a_warning(clf: Classifier) -> None:
    long = np.concatenate([tone(300.0, 1.0), tone(3000.0, 1.0)])
    with pytest.warns(UserWarning, match="1 of 1 sounds are longer than the model's input"):
        start = clf.predict(long, RATE)
    assert clf.predict(long, RATE, crops=3).probabilities != pytest.approx(start.probabilities, abs=1e-6)


def test_windows_of_an_array_are_those_of_its_file(clf: Classifier, tmp_path: Path) -> None:
    samples = np.concatenate([tone(300.0, 1.0), tone(3000.0, 1.2)])
    soundfile.write(tmp_path / "a.wav", samples, RATE, "FLOAT")
    of_array = list(clf.predict_windows(samples, RATE, window=0.9, hop=0.5))
    of_file = list(clf.predict_windows(tmp_path / "a.wav", window=0.9, hop=0.5))
    assert [(p.start, p.end) for p in of_array] == [(p.start, p.end) for p in of_file]
    assert [p.start for p in of_file] == pytest.approx([0.0, 0.5, 1.0, 1.3])
    for one, other in zip(of_array, of_file, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities)
    embeddings, times = clf.embed_windows(samples, RATE, window=0.9, hop=0.5)
    assert embeddings.shape == (4, clf.embed(samples[:8000], RATE).shape[0])
    assert times.tolist() == [[p.start, p.end] for p in of_file]


def test_events_cover_a_sound_of_one_label(clf: Classifier) -> None:
    events = list(clf.find_events(np.tile(tone(300.0, 0.9), 3), RATE, window=0.9, threshold=0.5))
    assert [(event.start, event.end) for event in events] == [(0.0, pytest.approx(2.7))]


@pytest.mark.parametrize(
    ("sound", "rate", "message"),
    [
        (np.zeros(100), None, "pass sample_rate"),
        (np.zeros(100), 3, "sample_rate 3 is not between"),
        (np.zeros(0), RATE, "no sample"),
        (np.zeros((2, 3, 4)), RATE, r"shape \(2, 3, 4\)"),
        (np.zeros((500, 500)), RATE, "500 channels"),
        (np.full(100, np.nan), RATE, "NaN"),
        (np.arange(1000.0) * 30, RATE, "divide them by 32768"),
        (np.zeros(100, complex), RATE, "complex128"),
        ([], RATE, "no sound"),
        ("absent.wav", None, "absent.wav"),
    ],
)
def test_what_is_no_sound_is_one_line(clf: Classifier, sound: object, rate: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        clf.predict(sound, rate)
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_named(clf: Classifier, sound: Path) -> None:
    cut_short(sound)
    for call in (clf.predict, clf.embed, lambda path: list(clf.predict_windows(path))):
        with pytest.raises(InputError, match=r"a\.wav: truncated"):
            call(sound)


def test_a_folder_is_refused_with_the_way_to_list_its_files(clf: Classifier, sound: Path) -> None:
    folder = sound.parent
    for call in (clf.predict, lambda path: clf.embed([sound, path]), lambda path: list(clf.predict_windows(str(path)))):
        with pytest.raises(InputError, match=r": a folder: pass its files, such as sorted\(Path\(.*rglob") as error:
            call(folder)
        assert str(error.value).startswith(f"{folder}: ") and "permissions" not in str(error.value)


def test_weights_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_classifier(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        load_classifier(tmp_path)


def test_a_mistyped_path_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="runs/absent: no such file"):
        load_classifier("runs/absent")


def test_a_name_on_the_hub_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"nobody/nothing: cannot download model\.safetensors") as error:
        load_classifier("nobody/nothing")
    assert "\n" not in str(error.value)
    for name in ("nobody/nothing", "ast:audioset"):
        with pytest.raises(InputError, match=r"hf download \S+/\S+ --local-dir DIR\) and pass --model DIR"):
            load_classifier(name)


def test_a_folder_that_hides_our_models_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/__init__.py").touch()
    code = "from reproduce import load_classifier"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert f"ImportError: {tmp_path}/models: hides this project's package 'models'" in done.stderr


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, reproduce; assert not {'torch', 'pandas'} & set(sys.modules); reproduce.load_frame"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'load_nothing'"):
        reproduce.load_nothing  # noqa: B018
