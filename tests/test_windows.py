"""Long recordings: where windows lie, what a model says of each, and how much of a file is held."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from make_audio import RATE, cut_short, tone
from make_runs import SPEC, make_model

from models.checkpoints import save_checkpoint
from reproduce.__main__ import main
from reproduce.audio.decoding import stated_seconds
from reproduce.audio.windows import cut_windows
from reproduce.errors import InputError
from reproduce.evaluation.inference import (
    InferenceOptions,
    TrainedModel,
    index_of_sounds,
    load_trained_model,
    predict_files,
)
from reproduce.evaluation.windows import Windows, predict_windows

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = InferenceOptions(device="cpu", batch_size=4)


class PitchModel(torch.nn.Module):
    """Says "low" or "high" by the half of the mels that has the loudest in more of the frames."""

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        low, high = (half.amax(dim=1) for half in x[:, 0].chunk(2, dim=1))
        return torch.stack([low > high, low < high], dim=2).float()  # (B, frames, 2)

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.mean(dim=1)

    def classify(self, embedding: torch.Tensor) -> torch.Tensor:
        return 20 * embedding


@pytest.fixture
def pitch() -> TrainedModel:
    model: Any = PitchModel()
    labels = {"label": ("low", "high")}
    return TrainedModel(model=model, name="pitch", front_end=SPEC, labels=labels, multilabel=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights with the classes low and high."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    labels = {"label": ["low", "high"]}
    save_checkpoint(
        path, make_model("ast_debug"), "ast_debug", front_end=SPEC.to_dict(), labels=labels, multilabel=False
    )
    return path


def write_tones(path: Path, *pitches: float, seconds: float = 3.0, rate: int = RATE) -> Path:
    """A file of tones of `seconds` each, one after the other."""
    soundfile.write(path, np.concatenate([tone(hz, seconds, rate, seed=i) for i, hz in enumerate(pitches)]), rate)
    return path


# --- windows ----------------------------------------------------------------------------------------------------------


def starts_of(samples: int, window: int, hop: int, block: int = 7, least: int = 1) -> list[tuple[int, int]]:
    """(first sample, length) of every window of `samples` samples that count up; the samples must be the stream's."""
    stream = np.arange(samples, dtype=np.float32)
    blocks = [stream[i : i + block] for i in range(0, samples, block)]
    windows = list(cut_windows(blocks, window, hop, least))
    for start, values in windows:
        assert np.array_equal(values, stream[start : start + len(values)])
    return [(start, len(values)) for start, values in windows]


@pytest.mark.parametrize("block", [1, 3, 10, 1000])
def test_windows_lie_a_hop_apart_and_the_last_one_ends_with_the_stream(block: int) -> None:
    assert starts_of(20, 10, 5, block) == [(0, 10), (5, 10), (10, 10)]
    assert starts_of(23, 10, 5, block) == [(0, 10), (5, 10), (10, 10), (13, 10)]
    assert starts_of(23, 10, 10, block) == [(0, 10), (10, 10), (13, 10)]


def test_a_stream_shorter_than_a_window_is_one_short_window_and_an_empty_one_none() -> None:
    assert starts_of(6, 10, 5) == [(0, 6)]
    assert starts_of(0, 10, 5) == []


def test_a_remainder_that_is_not_worth_it_gets_no_window() -> None:
    assert starts_of(22, 10, 5, least=3) == [(0, 10), (5, 10), (10, 10)]
    assert starts_of(23, 10, 5, least=3)[-1] == (13, 10)


@pytest.mark.parametrize("block", [1, 8, 1000])
def test_windows_may_leave_gaps(block: int) -> None:
    assert starts_of(25, 4, 10, block) == [(0, 4), (10, 4), (20, 4)]
    assert starts_of(22, 4, 10, block) == [(0, 4), (10, 4), (18, 4)]
    assert starts_of(18, 4, 10, block) == [(0, 4), (10, 4)]


@pytest.mark.parametrize(("window", "hop"), [(0, 1), (1, 0)])
def test_a_window_or_a_hop_of_nothing_is_refused(window: int, hop: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        list(cut_windows([np.zeros(3, np.float32)], window, hop))


@pytest.mark.parametrize(
    ("seconds", "hop", "message"),
    [(2.0, None, "the model's input is 0.95"), (0.05, None, "--window 0.05"), (0.5, 0.001, "--hop 0.001")],
)
def test_windows_that_the_model_cannot_take_are_refused(seconds: float, hop: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Windows.fitted(SPEC, seconds, hop)


def test_windows_are_by_default_as_long_as_the_models_input() -> None:
    windows = Windows.fitted(SPEC, None, None)
    assert windows.seconds == windows.hop == SPEC.seconds
    assert windows.advice(SPEC) is None
    assert "21%" in str(Windows.fitted(SPEC, 0.2, None).advice(SPEC))


# --- predictions ------------------------------------------------------------------------------------------------------


def test_a_window_is_predicted_as_a_file_of_its_own(weights: Path, tmp_path: Path) -> None:
    trained = load_trained_model(str(weights), "cpu")
    sound = write_tones(tmp_path / "long.wav", 300, 3000, seconds=1.3)
    samples, _ = soundfile.read(sound)
    windows = Windows.fitted(SPEC, 0.9, 0.5)
    parts = list(predict_windows(trained, index_of_sounds([sound], trained), windows, CPU))
    starts, ends = (np.concatenate([getattr(part, name) for part in parts]) for name in ("starts", "ends"))
    assert starts.tolist() == pytest.approx([0.0, 0.5, 1.0, 1.5, 1.7])
    assert (ends - starts).tolist() == pytest.approx([0.9] * 5)
    pieces = []
    for i, start in enumerate(starts):
        first = round(start * RATE)
        pieces.append(tmp_path / f"{i}.wav")
        soundfile.write(pieces[-1], samples[first : first + round(0.9 * RATE)], RATE)
    _, alone = predict_files(trained, pieces, CPU)
    assert np.allclose(np.concatenate([part.logits["label"] for part in parts]), alone.logits["label"], atol=1e-5)
    assert np.allclose(np.concatenate([part.embeddings for part in parts]), alone.embeddings, atol=1e-5)


def test_every_window_is_predicted_whatever_the_batch_and_the_file(pitch: TrainedModel, tmp_path: Path) -> None:
    sounds = [write_tones(tmp_path / f"{hz}.wav", hz, seconds=seconds) for hz, seconds in ((300, 2.5), (3000, 0.4))]
    windows = Windows.fitted(SPEC, 0.5, None)
    for batch_size in (1, 2, 100):
        seconds: list[float] = []
        parts = list(
            predict_windows(
                pitch,
                index_of_sounds(sounds, pitch),
                windows,
                InferenceOptions(device="cpu", batch_size=batch_size),
                seconds.append,
            )
        )
        assert np.concatenate([part.positions for part in parts]).tolist() == [0] * 5 + [1]
        assert np.concatenate([part.logits["label"].argmax(1) for part in parts]).tolist() == [0] * 5 + [1]
        assert sum(seconds) == pytest.approx(3.0)


def test_a_damaged_recording_is_predicted_up_to_the_damage_and_named(pitch: TrainedModel, tmp_path: Path) -> None:
    broken, good = write_tones(tmp_path / "a.flac", *[300.0] * 40), write_tones(tmp_path / "b.wav", 3000)
    content = bytearray(broken.read_bytes())
    content[len(content) * 3 // 4 : len(content) * 3 // 4 + 2000] = bytes(2000)
    broken.write_bytes(content)
    cut = write_tones(tmp_path / "c.wav", 300)
    cut_short(cut)
    index = index_of_sounds([broken, cut, good], pitch)
    parts = list(predict_windows(pitch, index, Windows.fitted(SPEC, 0.9, None), CPU))
    damaged, truncated = (problem for part in parts for problem in part.problems)
    assert damaged.reason == "unreadable" and "(used up to 6" in damaged.message
    assert truncated.reason == "truncated" and "used up to" not in truncated.message
    assert set(np.concatenate([part.positions for part in parts])) == {0, 2}
    with pytest.raises(InputError, match=r"none of the sounds can be used \(first: .*c.wav: truncated"):
        list(predict_windows(pitch, index_of_sounds([cut], pitch), Windows.fitted(SPEC, 0.9, None), CPU))


def test_a_window_whose_output_is_not_finite_is_a_problem(pitch: TrainedModel, tmp_path: Path) -> None:
    sound = write_tones(tmp_path / "a.wav", 300)
    calls: list[int] = []

    def spoil(embedding: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return PitchModel.classify(pitch.model, embedding) * (torch.nan if len(calls) == 2 else 1)  # type: ignore

    pitch.model.classify = spoil  # type: ignore[method-assign]
    options = InferenceOptions(device="cpu", batch_size=1)
    parts = list(predict_windows(pitch, index_of_sounds([sound], pitch), Windows.fitted(SPEC, 0.9, None), options))
    assert np.concatenate([part.starts for part in parts]).tolist() == pytest.approx([0, 1.8, 2.1])
    (problem,) = (problem for part in parts for problem in part.problems)
    assert "from 0.90 s the model's output is not finite" in problem.message


def test_a_recording_of_any_length_is_streamed(pitch: TrainedModel, tmp_path: Path) -> None:
    sound = tmp_path / "long.wav"
    with soundfile.SoundFile(sound, "w", 1000, 1, "PCM_U8") as file:  # three hours, where a clip may have two
        for _ in range(18):
            file.write(np.zeros(600_000, np.float32))
    assert stated_seconds(sound) == pytest.approx(10_800)
    slow = replace(pitch, front_end=replace(SPEC, sample_rate=1000))  # saves the resampling
    windows = Windows.fitted(slow.front_end, 0.9, 600.0)
    parts = list(predict_windows(slow, index_of_sounds([sound], slow), windows, CPU))
    assert np.concatenate([part.starts for part in parts])[-1] == pytest.approx(10_200)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_the_length_that_a_header_states_is_known_before_decoding(tmp_path: Path, name: str) -> None:
    assert stated_seconds(write_tones(tmp_path / name, 300)) == pytest.approx(3.0, abs=0.1)


def test_a_file_that_states_no_length_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no sound")
    assert stated_seconds(tmp_path / "a.wav") is None
    assert stated_seconds(tmp_path / "absent.wav") is None


# --- commands ---------------------------------------------------------------------------------------------------------


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured.out


@pytest.fixture
def stub(pitch: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reproduce.cli.inference.open_model", lambda *arguments: pitch)


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_events_are_found_where_the_sounds_are(tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: int) -> None:
    sound = write_tones(tmp_path / "a.wav", 300, 3000, 3000, 300, rate=rate)
    arguments = ("predict", sound, "--model", "stub", "--window", 0.9, "--hop", 0.1, "--merge", "--format", "json")
    events = json.loads(run_cli(capsys, *arguments))
    assert [event["label"] for event in events] == ["low", "high", "low"]
    for event, (start, end) in zip(events, [(0, 3), (3, 9), (9, 12)], strict=True):
        assert event["file"] == str(sound) and event["head"] == "label" and event["score"] > 0.9
        assert (event["start"], event["end"]) == pytest.approx((start, end), abs=0.1)


@pytest.mark.usefixtures("stub")
def test_rows_of_windows_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = write_tones(tmp_path / "a.wav", 300, 3000, seconds=0.9)
    arguments = ("predict", sound, "--model", "stub", "--window", 0.9, "--format")
    expected = [(str(sound), 0.0, 0.9, "low"), (str(sound), 0.9, 1.8, "high")]
    rows = list(csv.DictReader(io.StringIO(run_cli(capsys, *arguments, "csv"))))
    assert [(row["file"], float(row["start"]), float(row["end"]), row["label"]) for row in rows] == expected
    assert all(0.9 < float(row["score"]) <= 1 for row in rows)
    objects = json.loads(run_cli(capsys, *arguments, "json"))
    assert [(row["file"], row["start"], row["end"], row["label"]) for row in objects] == expected
    lines = run_cli(capsys, *arguments, "audacity").splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["0.000000", "0.900000"], ["0.900000", "1.800000"]]
    assert [line.split("\t")[2].split()[0] for line in lines] == ["low", "high"]
    text = run_cli(capsys, *arguments, "terminal")
    assert [line.split()[1:3] + line.split()[4:] for line in text.splitlines()] == [
        ["0.00", "0.90", "low"],
        ["0.90", "1.80", "high"],
    ]


@pytest.mark.usefixtures("stub")
def test_top_and_threshold_choose_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = write_tones(tmp_path / "a.wav", 300, seconds=0.9)
    arguments = ("predict", sound, "--model", "stub", "--window", 0.9, "--format", "json")
    assert [row["label"] for row in json.loads(run_cli(capsys, *arguments, "--top", 2))] == ["low", "high"]
    chosen = json.loads(run_cli(capsys, *arguments, "--top", 2, "--threshold", 0.5))
    assert [row["label"] for row in chosen] == ["low"]


@pytest.mark.usefixtures("stub")
def test_a_threshold_that_nothing_reaches_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = write_tones(tmp_path / "a.wav", 300, seconds=0.9)
    assert main(["predict", str(sound), "--model", "stub", "--merge", "--threshold", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "no window has a class with a probability of 1 or more: lower --threshold" in printed.err


@pytest.mark.usefixtures("stub")
def test_a_label_track_is_of_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sounds = [write_tones(tmp_path / f"{name}.wav", 300, seconds=0.5) for name in "ab"]
    assert main(["predict", *map(str, sounds), "--model", "stub", "--format", "audacity"]) == 2
    assert "a label track is of one file" in capsys.readouterr().err


def test_a_sound_longer_than_the_input_is_cut_and_a_line_says_so(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = write_tones(tmp_path / "a.wav", 300)
    for options, said in (((), True), (("--crops", "3"), False), (("--window", "0.9"), False)):
        assert main(["predict", str(sound), "--model", str(weights), *options]) == 0
        assert ("1 sound is longer than the model's input" in capsys.readouterr().err) == said
    short = write_tones(tmp_path / "b.wav", 300, seconds=1.0)
    assert main(["predict", str(short), "--model", str(weights)]) == 0
    assert "longer" not in capsys.readouterr().err


@pytest.mark.parametrize("options", [("--window", "0.9", "--crops", "2"), ("--window", "100"), ("--hop", "0")])
def test_options_of_windows_that_cannot_be_are_one_line(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    sound = write_tones(tmp_path / "a.wav", 300)
    try:
        status = main(["predict", str(sound), "--model", str(weights), *options])
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    assert status == 2
    assert "Traceback" not in capsys.readouterr().err


def test_embeddings_of_windows_are_written_with_their_times(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = write_tones(tmp_path / "a.wav", 300, 3000)
    out = tmp_path / "out.npz"
    said = run_cli(capsys, "embed", sound, "--model", weights, "--window", 0.9, "--hop", 0.5, "--out", out)
    with np.load(out) as stored:
        assert stored["files"].tolist() == [str(sound)] * 12
        assert stored["starts"].tolist() == pytest.approx([*np.arange(11) / 2, 5.1])
        assert stored["ends"] == pytest.approx(stored["starts"] + 0.9)
        assert stored["classes_label"].tolist() == ["low", "high"]
        assert stored["logits_label"].shape == (12, 2)
        assert f"12 embeddings of {stored['embeddings'].shape[1]} numbers" in said


@pytest.mark.parametrize("window", [(), ("--window", 0.9)])
def test_embeddings_of_a_data_set_have_its_labels(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], window: tuple[object, ...]
) -> None:
    import pyarrow.parquet

    rows = [("a.wav", "low", "train"), ("b.wav", "high;low", "test")]
    for name, _, _ in rows:
        write_tones(tmp_path / name, 300, seconds=0.9)
    (tmp_path / "list.csv").write_text("path,label,split\n" + "".join(",".join(row) + "\n" for row in rows))
    arguments = ("embed", "--data", f"csv={tmp_path / 'list.csv'}", "--model", weights, *window, "--out")
    run_cli(capsys, *arguments, tmp_path / "out.npz")
    run_cli(capsys, *arguments, tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert json.loads(table.schema.metadata[b"classes"]) == {"label": ["low", "high"]}
    frame = table.to_pandas()
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["labels"].tolist() == frame["label"].tolist() == ["low", "high;low"]
        assert stored["splits"].tolist() == frame["split"].tolist() == ["train", "test"]
        assert np.array_equal(stored["embeddings"], np.stack(frame["embedding"]))
        assert np.array_equal(stored["logits_label"], np.stack(frame["logits_label"]))
        assert ("start" in frame.columns) == ("starts" in stored.files) == bool(window)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.wav", "--out", "a.txt"), "end the name of --out in .npz or .parquet"),
        ((), "pass either sounds, or a data set"),
        (("a.wav", "--data", "csv=a.csv"), "pass either sounds, or a data set"),
    ],
)
def test_what_embed_cannot_do_is_one_line(
    weights: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(["embed", *arguments, "--model", str(weights)]) == 2
    assert message in capsys.readouterr().err
