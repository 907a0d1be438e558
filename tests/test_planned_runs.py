"""Which records count for the sound at hand: other sound trains anew, old records still count, ranks agree."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime
from io import StringIO
from pathlib import Path

import pytest
import soundfile
from make_audio import RATE, make_esc50_folder, tone
from make_runs import SPEC, finish, make_experiment, start

from reproduce.__main__ import main
from reproduce.cli.options import ExecutionOptions, TrainingOptions
from reproduce.cli.planned_runs import plan_runs
from reproduce.data.waveform_store import WaveformStore, load_waveforms
from reproduce.datasets import read_dataset
from reproduce.errors import InputError
from reproduce.records.runs import TrainedRun
from reproduce.records.store import load_records
from reproduce.training.processes import by_first_process, make_accelerator
from reproduce.training.run_keys import RunKeys

pytestmark = pytest.mark.usefixtures("one_thread")

UNKNOWN = "2 of 2 runs were recorded without hashes of their clips' sound"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return make_esc50_folder(tmp_path / "esc50", per_fold=1, folds=2)


def train(data: Path, *options: str) -> str:
    """What `esc50` logs, with one run of each model, tested on fold 1."""
    work = data.parent
    folders = ["--data", f"esc50={data}", "--records", str(work / "records"), "--runs", str(work / "runs")]
    err = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(err):
        assert main(["esc50", "--preset", "debug", "--folds", "1", "--device", "cpu", *folders, *options]) == 0
    return err.getvalue()


def runs(data: Path) -> tuple[TrainedRun, ...]:
    return load_records(data.parent / "records").of_kind(TrainedRun)


def replace_sound(data: Path, name: str) -> None:
    soundfile.write(data / f"audio/{name}.wav", tone(900.0), RATE)


def as_version_1(data: Path) -> list[str]:
    """Rewrite the records as an earlier version would have written them; their keys."""
    path = data.parent / "records/train.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record, run in zip(records, runs(data), strict=True):
        record["key"] = run.names_key
        for name in ("key_version", "train_content_sha256", "test_content_sha256"):
            del record["dataset"][name]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return [record["key"] for record in records]


@pytest.mark.parametrize(
    ("name", "changes"), [("1-0-1", "the files of 1 test clip have"), ("2-0-0", "the files of training clips have")]
)
def test_other_sound_under_the_same_names_trains_anew(data: Path, name: str, changes: str) -> None:
    assert "2 runs: 0 recorded, 2 to train" in train(data)
    replace_sound(data, name)
    log = train(data, "--run", "none")
    assert "2 runs: 2 recorded, 0 to train" in log and "does not check whether their sound is that of" in log
    log = train(data)
    assert f"2 of 2 runs were recorded on other sound under the same names, and do not count: {changes} changed" in log
    assert "2 runs: 0 recorded, 2 to train" in log
    before, after = runs(data)[:2], runs(data)[2:]
    assert not {run.key for run in before} & {run.key for run in after}
    assert [run.names_key for run in before] == [run.names_key for run in after]
    assert before[0].weights_sha256 != after[0].weights_sha256 or before[0].content[1] != after[0].content[1]
    assert "2 runs: 2 recorded, 0 to train" in train(data)


def test_lost_predictions_leave_the_number_of_changed_clips_out(data: Path) -> None:
    train(data)
    (data.parent / "records" / str(runs(data)[0].predictions)).unlink()
    (data.parent / "records" / str(runs(data)[1].predictions)).write_bytes(b"damaged")
    replace_sound(data, "1-0-1")
    assert "the files of test clips have changed" in train(data)


def test_a_touched_or_moved_corpus_is_the_same_sound(data: Path) -> None:
    train(data)
    for path in (data / "audio").iterdir():
        os.utime(path, (1.0, 1.0))
    log = train(data.rename(data.parent / "moved"))
    assert "2 runs: 2 recorded, 0 to train" in log and "sound" not in log


def test_records_of_version_1_count(data: Path) -> None:
    train(data)
    keys = as_version_1(data)
    replace_sound(data, "1-0-1")
    log = train(data)
    assert "2 runs: 2 recorded, 0 to train" in log and UNKNOWN in log and "not run" not in log
    # Trained again, they are recorded with their sound, and these records count from then on.
    train(data, "--run", "all")
    newest = load_records(data.parent / "records").newest(TrainedRun)
    assert not {run.key for run in newest} & set(keys) and {run.names_key for run in newest} == set(keys)
    assert UNKNOWN not in train(data)


@pytest.fixture
def store(data: Path) -> WaveformStore:
    return load_waveforms(read_dataset("esc50", data), SPEC)


def test_a_run_that_an_earlier_version_began_goes_on_under_its_key(store: WaveformStore, tmp_path: Path) -> None:
    execution = dict.fromkeys(ExecutionOptions.__dataclass_fields__)  # of no concern to a plan
    options = TrainingOptions(
        run="missing",
        runs=tmp_path / "runs",
        records=tmp_path / "records",
        follow_outside=False,
        execution=ExecutionOptions(**execution),
    )
    experiment = make_experiment()
    (fresh,), hashed = plan_runs([experiment], store, "train", options)
    assert fresh.train and fresh.with_content
    assert fresh.key == RunKeys(hashed).key(experiment) != RunKeys(store).key(experiment)
    begun = tmp_path / "runs" / RunKeys(store).key(experiment) / "epoch-0001-step-000000.pt"
    begun.parent.mkdir(parents=True)
    begun.touch()
    (resumed,), _ = plan_runs([experiment], store, "train", options)
    assert resumed.train and not resumed.with_content and resumed.key == begun.parent.name


# --- several processes ----------------------------------------------------------------------------------------------


def write_rank(folder: Path, fails: bool) -> None:
    """Each process writes what the first one returned, or the error it raised."""
    make_accelerator("cpu")

    def work(still_working: Callable[[], object]) -> str:
        for _ in range(3):
            still_working()
        if fails:
            raise InputError(f"by {os.environ['RANK']}")
        return f"by {os.environ['RANK']}"

    try:
        result = by_first_process(work, every_s=0.0)
    except InputError as error:
        result = f"error {error}"
    (folder / os.environ["RANK"]).write_text(result)


@pytest.mark.parametrize(("fails", "expected"), [(False, "by 0"), (True, "error by 0")])
def test_what_the_first_process_finds_is_known_to_both(tmp_path: Path, fails: bool, expected: str) -> None:
    assert finish(start(write_rank, tmp_path, fails, ranks=2)) == [0, 0]
    assert [(tmp_path / rank).read_text() for rank in "01"] == [expected] * 2


def test_checkpoints_that_a_kill_left_beside_a_record_are_deleted_and_later_ones_kept(data: Path) -> None:
    """The kill came between the record and the deletion. Checkpoints after the record are those of another training."""
    train(data)
    work, (first, second) = data.parent, runs(data)
    at = datetime.fromisoformat(first.created).timestamp()
    for run, time in ((first, at - 5), (second, at + 3600)):
        path = work / "runs" / run.key / "epoch-0001-step-000000.pt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"weights")
        os.utime(path, (time, time))
    assert "2 recorded, 0 to train" in train(data, "--run", "none") + train(data)
    assert [path.parent.name for path in (work / "runs").glob("*/epoch-*.pt")] == [second.key]
