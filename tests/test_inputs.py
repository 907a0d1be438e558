"""Every command gives the right answer for the small sound files that public decoders read wrongly."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from fuzz.sounds import MODEL, save_debug_model
from make_audio import RATE
from make_inputs import ANSWERS, BY_FFMPEG, LENGTH_S

from reproduce.__main__ import main
from reproduce.records.runs import TrainedRun
from reproduce.records.store import load_records

pytestmark = pytest.mark.usefixtures("one_thread")
REFUSED = {name: answer for name, (answer, _) in ANSWERS.items() if isinstance(answer, str)}
SECONDS = {name: answer for name, (answer, _) in ANSWERS.items() if not isinstance(answer, str)}
WARNINGS = {name: warning for name, (_, warning) in ANSWERS.items() if warning}


@pytest.fixture(scope="module")
def folder(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files in two classes, and a list of them."""
    root = tmp_path_factory.mktemp("inputs")
    lines = ["path,label"]
    for number, name in enumerate(sorted(ANSWERS)):
        of_class = f"class {number % 2}"
        (root / "sounds" / of_class).mkdir(parents=True, exist_ok=True)
        shutil.copy(inputs / name, root / "sounds" / of_class / name)
        lines.append(f"sounds/{of_class}/{name},{of_class}")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


def command(*arguments: str | Path) -> tuple[str, str]:
    """What a command prints on stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert main([str(argument) for argument in arguments]) == 0, err.getvalue()
    assert "Traceback" not in err.getvalue()
    return out.getvalue(), err.getvalue()


def test_every_file_is_among_the_answers(inputs: Path) -> None:
    assert {path.name for path in inputs.iterdir()} == {*ANSWERS, BY_FFMPEG, "README.md"}


def test_predict_reads_or_names_every_file(folder: Path, tmp_path: Path) -> None:
    save_debug_model(tmp_path / MODEL)
    out, err = command("predict", folder / "sounds", "--model", tmp_path / MODEL, "--format", "json", "--device", "cpu")
    rows = json.loads(out)
    assert {Path(row["file"]).name for row in rows} == {*SECONDS}
    for row in rows:
        assert sum(best["probability"] for best in row["label"]) == pytest.approx(1.0)
    told = [line for line in err.splitlines() if line.startswith("not used: ")]
    assert len(told) == len(REFUSED)
    for name, reason in REFUSED.items():
        assert any(f"/{name}: {reason}" in line for line in told), (name, told)
    for name, warning in WARNINGS.items():
        assert f"/{name}: {warning}" in err, name


@pytest.mark.parametrize("layout", ["folder", "csv"])
def test_training_uses_or_names_every_file(folder: Path, layout: str, tmp_path: Path) -> None:
    data = folder / ("sounds" if layout == "folder" else "list.csv")
    places = ("--records", tmp_path / "records", "--runs", tmp_path / "runs", "--log-with", "none")
    options = ("--preset", "debug", "--folds", "1", "--device", "cpu", "--workers", "0")
    command("train", layout, "--data", f"{layout}={data}", *options, *places)
    runs = load_records(tmp_path / "records").of_kind(TrainedRun)
    assert {run.model for run in runs} >= {"ast_debug", "mast_debug"}
    for run in runs:
        problems = run.record.dataset["problems"]
        (of_list,) = (p for p in problems if not p["clip_id"])
        assert of_list["reason"] == "copies"  # some files hold the same sound
        problems.remove(of_list)
        assert {Path(p["clip_id"]).name: p["reason"] for p in problems if p["fatal"]} == REFUSED
        assert {Path(p["clip_id"]).name: p["reason"] for p in problems if not p["fatal"]} == WARNINGS
        assert (run.kept, run.listed) == (len(SECONDS), len(ANSWERS))


def test_the_audit_measures_or_names_every_file(folder: Path, tmp_path: Path) -> None:
    command("data", "audit", "csv", "--data", f"csv={folder / 'list.csv'}", "--out", tmp_path)
    examined = [json.loads(line) for line in (tmp_path / "clips.jsonl").read_text().splitlines()]
    lengths = {Path(row["path"]).name: row["seconds"] for row in examined if row["status"] == "usable"}
    assert lengths == pytest.approx(SECONDS, abs=LENGTH_S)
    with (tmp_path / "faults.csv").open(newline="") as file:
        faults = {(Path(row["path"]).name, row["fault"]) for row in csv.DictReader(file)}
    assert {*REFUSED.items(), *WARNINGS.items()} <= faults


def test_shards_hold_or_name_every_file(folder: Path, tmp_path: Path) -> None:
    command("data", "shard", "folder", tmp_path / "out", "--data", f"folder={folder / 'sounds'}")
    problems = [
        p for shard in json.loads((tmp_path / "out/index.json").read_text())["shards"] for p in shard["problems"]
    ]
    assert {Path(p["clip_id"]).name: p["reason"] for p in problems if p["fatal"]} == REFUSED
    assert {Path(p["clip_id"]).name: p["reason"] for p in problems if not p["fatal"]} == WARNINGS
    lengths = {}
    for path in (tmp_path / "out").rglob("*.tar"):
        with tarfile.open(path) as shard:
            for member in shard:
                if member.name.endswith(".json"):
                    clip = json.load(shard.extractfile(member) or io.BytesIO())
                    lengths[Path(clip["clip_id"]).name] = clip["samples"] / RATE
    assert lengths == pytest.approx(SECONDS, abs=LENGTH_S)
