"""`--dry-run`: one real step of every run, its checkpoint and its resume, on each data set, without a record."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from make_runs import RECIPE, make_execution, make_experiment, make_store

from reproduce.__main__ import main
from reproduce.audio.spec import AudioSpec
from reproduce.datasets.standin.write import write_standin
from reproduce.errors import InputError
from reproduce.experiments import targets
from reproduce.experiments.paper_recipes import PaperRecipe, paper_recipes
from reproduce.training.dry_run import dry_run

pytestmark = pytest.mark.usefixtures("one_thread")

DEBUG_MODELS = {"ast_base": "ast_debug", "mast_base": "mast_debug", "ast_mbt": "ast_mbt_debug"}
DEBUG_INPUT = AudioSpec(mels=32, frames=64, frame_length_ms=160.0, frame_shift_ms=160.0)


def debug_recipes() -> tuple[PaperRecipe, ...]:
    """The paper's recipes for models that take a second: all their fields but masks, which must fit the input."""
    return tuple(
        replace(
            recipe,
            model=DEBUG_MODELS[recipe.model],
            front_end=DEBUG_INPUT,
            recipe=replace(recipe.recipe, freq_mask=8, time_mask=12),
        )
        for recipe in paper_recipes()
    )


# Target, data set, clips of its stand-in, and the runs: recipe and model, on each protocol.
EACH = [("mast", "ast_debug"), ("mast", "mast_debug"), ("ast", "ast_debug"), ("mbt", "ast_mbt_debug")]
CASES = [
    ("table2", "kinetics_sounds", 24, EACH),
    ("table3", "vggsound", 24, EACH),
    ("table4", "epic_kitchens", 24, EACH),
    ("table5", "audioset", 24, EACH * 2),
]


@pytest.mark.parametrize(("target", "dataset", "clips", "runs"), CASES, ids=[case[0] for case in CASES])
def test_a_step_of_every_paper_recipe_is_trained_saved_and_resumed(
    target: str,
    dataset: str,
    clips: int,
    runs: list[tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(targets, "paper_recipes", debug_recipes)
    data = write_standin(dataset, tmp_path / dataset, clips=clips)
    options = ["--dry-run", "--data", f"{dataset}={data}", "--set", "batch_size=4", "--set", "weights=scratch"]
    options += ["--micro-batch", "3", "--device", "cpu"]
    folders = ["--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    assert main([target, *options, *folders]) == 0
    lines = capsys.readouterr().out.splitlines()
    pattern = (
        r"(\w+), recipe (\w+), batch_size=4, weights=scratch: a step of 4 clips in 2 micro-batches took [\d.]+ s, "
        r"loss ([\d.]+) then ([\d.]+), peak memory [\d.]+ GiB; "
        r"checkpoint of [\d.]+ GB written and resumed; [1-8] test clips predicted \(.+ [\d.]+ %\)"
    )
    found = [re.fullmatch(pattern, line) for line in lines]
    assert all(found), lines
    assert [(match[2], match[1]) for match in found if match] == runs
    assert not (tmp_path / "records").exists() and not list((tmp_path / "runs").iterdir())


def test_a_demo_runs_its_first_seed_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_standin("vggsound", tmp_path / "vggsound", clips=24)
    options = ["--preset", "debug", "--dry-run", "--seeds", "3", "--data", f"vggsound={data}", "--device", "cpu"]
    assert main(["table3", *options, "--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": a step of ")[0] for line in lines] == [
        "ast_debug, recipe demo",
        "mast_debug, recipe demo",
    ]
    assert not (tmp_path / "records").exists()


def test_without_data_it_says_how_to_give_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table2", "--dry-run", "--records", str(tmp_path)]) == 2
    assert "--dry-run needs data: pass --data NAME=DIR" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "data", 8, 8)

    def full_disk(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(InputError, match="training did not resume from the checkpoint"):
        dry_run(make_experiment("ast_debug", RECIPE), store, make_execution(), tmp_path / "runs")
