"""The small trained models that come with the package: what they are, and that they work as their card says."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from make_audio import RATE, tone

from reproduce.__main__ import main
from reproduce.datasets import read_dataset
from reproduce.evaluation.demo import FOLDER, MODELS
from reproduce.evaluation.inference import InferenceOptions, evaluate, load_trained_model

pytestmark = pytest.mark.usefixtures("one_thread")

CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
EIGHT_MB = 8_000_000


@pytest.mark.parametrize("model", MODELS)
def test_a_demo_is_small_and_knows_what_it_was_trained_on(model: str) -> None:
    assert (FOLDER / f"{model}.safetensors").stat().st_size <= EIGHT_MB
    trained = load_trained_model(f"demo:{model}", "cpu")
    assert (trained.name, trained.trained_on, trained.multilabel) == (model, ("2", "3", "4", "5"), False)
    assert len(trained.labels["label"]) == 10


@pytest.mark.parametrize("model", MODELS)
def test_a_demos_score_on_the_clips_it_never_saw_is_the_cards(model: str, esc10: Path) -> None:
    tested = read_dataset("esc50", esc10).where_split("1")
    metrics, _ = evaluate(load_trained_model(f"demo:{model}", "cpu"), tested, InferenceOptions(device="cpu"))
    stated = re.search(rf"`demo:{model}`.*\| ([\d.]+) %", CARD)
    assert stated and metrics["top1"] == pytest.approx(float(stated[1]), abs=1.3)  # one clip of 80


def test_predict_works_in_any_folder_without_a_network(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    environment["PYTHONPATH"] = str(FOLDER.parents[1])
    (sound,) = FOLDER.glob("*.ogg")
    done = subprocess.run(
        [sys.executable, "-m", "reproduce", "predict", str(sound), "--model", "demo", "--format", "json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["label"][0]["label"] == sound.stem


def test_every_demo_names_its_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = tmp_path / "tone.wav"
    soundfile.write(sound, tone(440.0), RATE)
    for source in ("demo", *(f"demo:{model}" for model in MODELS)):
        assert (
            main(["predict", str(sound), "--model", source, "--format", "csv", "--top", "10", "--device", "cpu"]) == 0
        )
        rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert sum(float(row["probability"]) for row in rows) == pytest.approx(1, abs=1e-4)
        assert {"dog", "rain", "rooster"} <= {row["label"] for row in rows}


def test_an_unknown_demo_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = tmp_path / "tone.wav"
    soundfile.write(sound, tone(440.0), RATE)
    assert main(["predict", str(sound), "--model", "demo:cnn"]) == 2
    assert "choose from demo, demo:mast_tiny, demo:ast_tiny" in capsys.readouterr().err


def test_every_clip_it_learned_from_is_attributed(esc10: Path) -> None:
    attribution = (FOLDER / "LICENSE-ATTRIBUTION.txt").read_text(encoding="utf-8")
    with open(esc10 / "meta/esc50.csv", newline="") as file:
        clips = [(row["fold"], row["src_file"], row["take"]) for row in csv.DictReader(file)]
    assert len(clips) == 400
    assert [clip for clip in clips if "[{}-{}-{}.".format(*clip) not in attribution] == []
