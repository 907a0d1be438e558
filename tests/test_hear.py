"""The HEAR API: hear-validator's own checks, and what https://hearbenchmark.com/hear-api.html says besides."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch
from make_models import make_model
from make_runs import SPEC

from models.checkpoints import save_checkpoint
from reproduce import hear, load_classifier
from reproduce.audio.spec import AudioSpec
from reproduce.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=["ast_debug", "mast_debug"], scope="module")
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    model = make_model(request.param, num_classes=2, input_size=(SPEC.mels, SPEC.frames))
    labels = {"label": ["low", "high"]}
    save_checkpoint(path, model, request.param, front_end=SPEC.to_dict(), labels=labels, multilabel=False)
    return path


def noise(sounds: int, seconds: float, rate: int = SPEC.sample_rate) -> torch.Tensor:
    return torch.rand(sounds, round(seconds * rate), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_hear_validator_accepts_the_module(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("hearvalidator") is None:
        pytest.skip("needs hear-validator: pip install --no-deps hearvalidator")
    # It imports TensorFlow to ask whether a model is one of TensorFlow's; nothing else is used for a torch model.
    tensorflow = types.ModuleType("tensorflow")
    tensorflow.Module = type("Module", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    from hearvalidator.validate import ValidateModel

    with pytest.warns(UserWarning, match="50ms"):  # it suggests 50 ms between timestamps, for transcription
        ValidateModel("reproduce.hear", str(weights), "cpu")()


@pytest.mark.parametrize("seconds", [0.01, 0.3, 0.955, 2.0, 3.74])
def test_embeddings_have_the_shapes_and_types_of_the_api(weights: Path, seconds: float) -> None:
    model = hear.load_model(str(weights))
    audio = noise(3, seconds)
    scene = hear.get_scene_embeddings(audio, model)
    assert (scene.dtype, tuple(scene.shape)) == (torch.float32, (3, model.scene_embedding_size))
    embeddings, times = hear.get_timestamp_embeddings(audio, model)
    assert embeddings.dtype == times.dtype == torch.float32
    assert tuple(embeddings.shape) == (3, times.shape[1], model.timestamp_embedding_size)
    assert tuple(times.shape[:1]) == (3,) and bool((times == times[0]).all())
    steps = times[0].diff()
    assert steps.numel() == 0 or (steps.max() - steps.min() < 1e-3 and steps.min() > 0)
    if times.shape[1] > 1:
        assert times[0, -1] < 1000 * seconds <= times[0, -1] + 2 * steps[0]
    assert bool(scene.isfinite().all()) and bool(embeddings.isfinite().all())
    assert isinstance(model, torch.nn.Module) and isinstance(model.sample_rate, int)


def test_the_scene_embedding_is_the_classifiers(weights: Path) -> None:
    audio = noise(2, 0.9)
    scene = hear.get_scene_embeddings(audio, hear.load_model(str(weights)))
    expected = load_classifier(weights, "cpu").embed(list(audio.numpy()), SPEC.sample_rate)
    assert torch.allclose(scene, torch.from_numpy(expected), atol=1e-5)


def test_timestamps_follow_the_sound(weights: Path) -> None:
    audio = torch.zeros(1, round(2 * SPEC.sample_rate))
    loud = audio.clone()
    loud[:, round(1.2 * SPEC.sample_rate) :] = noise(1, 0.8)
    model = hear.load_model(str(weights))
    (silent, times), (changed, _) = (hear.get_timestamp_embeddings(x, model) for x in (audio, loud))
    differs = (silent - changed).abs().amax(dim=(0, 2)) > 1e-3
    assert not differs[times[0] < 600].any()  # of the first piece, which ends before the noise
    assert differs[times[0] > 1500].all()


def test_timestamps_are_the_middles_of_what_the_tokens_see(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    spec = AudioSpec(mels=32, frames=96)
    model = make_model("ast_debug", num_classes=2, input_size=(32, 96))
    save_checkpoint(path, model, "ast_debug", front_end=spec.to_dict(), labels={"label": ["a", "b"]}, multilabel=False)
    _, times = hear.get_timestamp_embeddings(noise(1, 3.0), hear.load_model(str(path)))
    # A patch of 16 frames of 25 ms, 10 ms apart: the first spans 0 to 175 ms. Patches begin every 10 frames.
    assert times[0, :3].tolist() == pytest.approx([87.5, 187.5, 287.5])
    assert times.shape[1] == 30


def test_audio_of_another_shape_is_one_line(weights: Path) -> None:
    model = hear.load_model(str(weights))
    for audio in (torch.zeros(10), torch.zeros(2, 0)):
        with pytest.raises(InputError, match="n_sounds"):
            hear.get_scene_embeddings(audio, model)
