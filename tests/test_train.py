"""`train NAME`: every kind of data set goes through one command path, from its official files to scored records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from reproduce.__main__ import main
from reproduce.datasets.standin.write import write_standin
from reproduce.records.records import Records
from reproduce.records.runs import TrainedRun
from reproduce.records.selection import paper_runs
from reproduce.records.store import load_records

SCORES = {
    "kinetics_sounds": {"top1", "top5"},
    "vggsound": {"top1", "top5"},
    "epic_kitchens": {"verb_top1", "noun_top1", "action_top1"},
    "audioset": {"map", "mauc", "d_prime"},
}


def train(name: str, data: Path, work: Path, *options: str) -> int:
    arguments = ["train", name, "--data", f"{name}={data}", "--preset", "debug", "--format", "json"]
    return main([*arguments, "--records", str(work / "records"), "--runs", str(work / "runs"), *options])


@pytest.mark.parametrize("name", SCORES)
def test_a_stand_in_takes_the_path_of_the_real_data_and_is_named_as_one(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_standin(name, tmp_path / name, clips=64)
    assert train(name, data, tmp_path) == 0
    table = json.loads(capsys.readouterr().out)
    assert "synthetic STAND-IN" in table["title"]
    cells = {(cell["row"], cell["column"]): cell for cell in table["rows"]}
    for model in ("ast_debug", "mast_debug"):
        assert {column for row, column in cells if row == model} >= SCORES[name]
        assert all(cells[model, score]["status"] == "measured" for score in SCORES[name])
    runs = load_records(tmp_path / "records").of_kind(TrainedRun)
    assert [run.dataset for run in runs] == [name, name]
    assert all(run.test_kept == run.test_listed > 0 for run in runs)
    # Whatever its scale, a stand-in never fills a cell of the paper.
    paper_scale = Records(tuple(replace(run, scale="paper") for run in runs))
    assert paper_runs(paper_scale, "mast_debug", name, variant=runs[0].variant) == []


def test_a_folder_of_sounds_is_cross_validated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for kind, scale in (("loud", 0.5), ("soft", 0.01)):
        (tmp_path / "sounds" / kind).mkdir(parents=True)
        for take in range(15):
            noise = scale * rng.standard_normal(8000)
            soundfile.write(tmp_path / "sounds" / kind / f"{take}.wav", noise, 16_000)
    assert train("folder", tmp_path / "sounds", tmp_path, "--folds", "1") == 0
    table = json.loads(capsys.readouterr().out)
    assert "1 of 5 folds tested" in table["title"]
    rows = {cell["row"] for cell in table["rows"]}
    assert rows == {"ast_debug", "mast_debug", "baseline", "majority class", "ratio"}
    (run,) = (run for run in load_records(tmp_path / "records").of_kind(TrainedRun) if run.model == "mast_debug")
    weights = str(tmp_path / f"runs/{run.key}.safetensors")
    capsys.readouterr()
    assert main(["evaluate", "folder", str(tmp_path / "sounds"), "--model", weights]) == 2
    assert "from 1, 2, 3, 4, 5; the model was not trained on 1" in capsys.readouterr().err
    assert main(["evaluate", "folder", str(tmp_path / "sounds"), "--model", weights, "--split", "1"]) == 0
    assert f"top1         {run.metric('top1'):8.3f} %" in capsys.readouterr().out
    # The same clips as a list have folds of their own, which say nothing of what the model was trained on.
    clips = sorted((tmp_path / "sounds").rglob("*.wav"))
    table = tmp_path / "list.csv"
    table.write_text("path,label\n" + "".join(f"{clip},{clip.parent.name}\n" for clip in clips))
    assert main(["evaluate", "csv", str(table), "--model", weights]) == 2
    assert "from 1, 2, 3, 4, 5; the model was trained on 2, 3, 4, 5 of folder" in capsys.readouterr().err
    assert main(["evaluate", "csv", str(table), "--model", weights, "--split", "1"]) == 0
    assert "trained on 2, 3, 4, 5 of folder: if clips of these are among the test clips" in capsys.readouterr().err


def test_folds_of_a_data_set_with_a_split_of_its_own_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_standin("vggsound", tmp_path / "vggsound", clips=84)
    assert train("vggsound", data, tmp_path, "--folds", "2") == 2
    assert "--folds 2: vggsound has an official test split, test" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variant", "ks99"], "choose one of ks32"),
        (["--weights", "imagenet"], "use ast_base or no weights"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_standin("kinetics_sounds", tmp_path / "ks", clips=64)
    assert train("kinetics_sounds", data, tmp_path, *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
