"""`python -m reproduce`: what it prints, what it trains, and the one line it gives for bad input."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from make_audio import cut_short, make_esc50_folder, tone

from reproduce.__main__ import main
from reproduce.cli.commands import all_commands
from reproduce.records.runs import TrainedRun
from reproduce.records.store import load_records

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[1]
TORCH = {"torch", "timm", "torchvision"}
HEAVY = {*TORCH, "pandas"}


@pytest.fixture(scope="module")
def nothing_recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return "--records", tmp_path_factory.mktemp("records")


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    def only_error(self) -> str:
        """The message of a command that failed on bad input."""
        assert self.status == 2
        assert self.out == ""
        (line,) = (line for line in self.err.splitlines() if line.startswith("error: "))
        assert self.err.splitlines()[-1] == line
        assert "Traceback" not in self.err
        return line


def call(*arguments: str | Path) -> Outcome:
    """The command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stopped:  # argparse
            status = int(stopped.code or 0)
    return Outcome(status, out.getvalue(), err.getvalue())


def call_fresh(*arguments: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """The command in a new process, and the modules it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "reproduce", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    return done, {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}


# --- help and listing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("--help",), ("list",), ("table5", "--help"), ("esc50", "--help")], ids=" ".join)
def test_help_and_list_answer_at_once_without_torch(arguments: tuple[str, ...]) -> None:
    done, imported = call_fresh(*arguments)
    assert done.returncode == 0
    assert "argparse" in imported  # or the list of imports was not read
    assert not imported & HEAVY
    if "esc50" not in arguments:
        assert "table5" in done.stdout


def test_modules_are_excluded_from_garbage_collection_once_and_after_the_commands_own() -> None:
    code = (
        "import gc, sys; from reproduce.__main__ import main; frozen = [];"
        "gc.freeze = lambda: frozen.append('reproduce.cli.listing' in sys.modules);"
        "gc.get_freeze_count = lambda: len(frozen); main(['list']); main(['list']); assert frozen == [True], frozen"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_a_comparison_with_its_corrected_intervals_imports_no_scipy() -> None:
    done, imported = call_fresh("esc50", "--run", "none")
    assert "corrected for overlapping training sets" in " ".join(done.stdout.split())
    assert not imported & {*HEAVY, "scipy"}


def test_list_names_targets_datasets_and_presets() -> None:
    done = call("list")
    assert done.status == 0
    for name in ("table1", "table5", "ablations", "esc50", "audioset", "vggsound", "demo", "debug", "mast_tiny"):
        assert name in done.out


def test_help_lists_every_command_by_group_with_an_example() -> None:
    text = call("--help").out
    titles = (
        "start here:",
        "the paper's tables and figures:",
        "your own sounds:",
        "studies on a folder",
        "data sets:",
        "costs, speed and",
    )
    assert [text.index(title) for title in titles] == sorted(text.index(title) for title in titles)
    assert text.count("e.g. python -m reproduce ") == len(titles)
    assert max(map(len, text.splitlines())) <= 120


def test_every_command_has_help_with_an_example() -> None:
    for command in all_commands():
        done = call(*command.name.split(), "--help")
        assert done.status == 0
        assert command.example in done.out


def test_version_names_the_package() -> None:
    done = call("--version")
    assert done.status == 0
    assert re.fullmatch(r"mast-vs-ast \d+\.\d+.*", done.out.strip())


# --- a table of the paper -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table5(nothing_recorded: tuple[str, Path]) -> dict[tuple[str, str], dict[str, Any]]:
    """Cells of `table5 --format json` with nothing recorded, by row and column."""
    done = call("table5", "--format", "json", *nothing_recorded)
    assert done.status == 0
    table = json.loads(done.out)
    assert table["table"] == "table5"
    return {(cell["row"], cell["column"]): cell for cell in table["rows"]}


@pytest.mark.parametrize(
    ("row", "column", "value", "decimals"),
    [
        ("ast_our_as", "params_exact", 86.594063, 6),
        ("mast", "params_exact", 51.379919, 6),
        ("ast_our_as", "params", 88.132063, 6),
        ("mast", "params", 51.379919, 6),
        ("ast_our_as", "macs", 103.4, 1),
        ("mast", "macs", 25.6, 1),
        ("ast_our_as", "macs_full", 130.6, 1),
        ("mast", "macs_full", 34.4, 1),
    ],
)
def test_table_5_measures_the_costs_live(
    table5: dict[tuple[str, str], dict[str, Any]], row: str, column: str, value: float, decimals: int
) -> None:
    cell = table5[row, column]
    assert cell["status"] == "measured"
    assert round(cell["measured"], decimals) == value
    assert cell["unit"] == ("M" if column.startswith("params") else "G")


@pytest.mark.parametrize(("row", "model"), [("ast_our_as", "ast_base"), ("mast", "mast_base")])
@pytest.mark.parametrize("column", ["balanced", "full"])
def test_table_5_says_why_an_accuracy_was_not_run(
    table5: dict[tuple[str, str], dict[str, Any]],
    row: str,
    model: str,
    column: str,
    nothing_recorded: tuple[str, Path],
) -> None:
    cell = table5[row, column]
    assert (cell["status"], cell["measured"]) == ("not run", None)
    assert cell["paper"] is not None
    for part in ("not run", model, "audioset", column, str(nothing_recorded[1])):
        assert part in cell["conditions"]


def test_every_cell_of_the_json_has_the_promised_fields(table5: dict[tuple[str, str], dict[str, Any]]) -> None:
    fields = {"row", "column", "paper", "measured", "unit", "status", "conditions", "n", "ci"}
    assert all(set(cell) == fields for cell in table5.values())
    assert {cell["status"] for cell in table5.values()} == {"measured", "not run", "paper only"}
    assert all((cell["measured"] is None) == (cell["status"] != "measured") for cell in table5.values())


def test_csv_holds_the_same_numbers_as_json(
    table5: dict[tuple[str, str], dict[str, Any]], nothing_recorded: tuple[str, Path]
) -> None:
    done = call("table5", "--format", "csv", *nothing_recorded)
    rows = {(row["row"], row["column"]): row for row in csv.DictReader(io.StringIO(done.out))}
    assert rows.keys() == table5.keys()
    for key, row in rows.items():
        for name in ("paper", "measured"):
            assert (float(row[name]) if row[name] else None) == table5[key][name]
        assert row["conditions"] == table5[key]["conditions"]


def test_markdown_is_one_even_table(nothing_recorded: tuple[str, Path]) -> None:
    done = call("table5", "--format", "markdown", *nothing_recorded)
    lines = [line for line in done.out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert lines[1].startswith("| :-- | --: |")
    assert any("MAST (Ours)" in line and "31.4 → not run" in line for line in lines)


# --- tables of what is stored ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of the costs of today's models."""
    folder = tmp_path_factory.mktemp("recorded") / "records"
    assert "6 measured live" in call("ablations", "--records", folder).err
    return folder


@pytest.mark.parametrize("table", ["table1", "table5", "ablations", "claims"])
def test_costs_of_the_same_models_come_from_the_records_without_torch(table: str, recorded: Path) -> None:
    before = (recorded / "cost.jsonl").read_bytes()
    done, imported = call_fresh(table, "--records", str(recorded), "--format", "json")
    assert done.returncode == 0
    assert "recorded by these very models" in done.stderr and "live" not in done.stderr
    assert not imported & TORCH
    assert (recorded / "cost.jsonl").read_bytes() == before
    assert done.stdout == call(table, "--records", recorded, "--format", "json").out


@pytest.mark.parametrize("table", ["table2", "table3", "table4", "table6", "figure2", "scaling", "speed"])
def test_a_table_of_the_committed_records_imports_no_torch(table: str, tmp_path: Path) -> None:
    options = () if table == "speed" else ("--run", "none", "--figures", str(tmp_path))
    done, imported = call_fresh(table, *options)
    assert done.returncode == 0
    assert "argparse" in imported
    assert not imported & TORCH


def test_a_study_that_trains_nothing_decodes_nothing_and_imports_no_torch(tmp_path: Path) -> None:
    data = make_esc50_folder(tmp_path / "esc50", per_fold=1)
    done, imported = call_fresh("esc50", "--data", f"esc50={data}", "--run", "none", "--records", str(tmp_path))
    assert done.returncode == 0
    assert "10 of 10 listed clips have a file; --run none decodes none of them" in done.stderr
    assert not imported & TORCH


def test_a_study_of_recorded_costs_needs_no_torch(tmp_path: Path) -> None:
    data = make_esc50_folder(tmp_path / "data")
    options = ("--data", f"esc50={data}", "--run", "none", "--preset", "debug", "--records", str(tmp_path / "records"))
    measured, recorded, pooling = (call_fresh(study, *options) for study in ("equal_macs", "equal_macs", "pooling"))
    assert [done.returncode for done, _ in (measured, recorded, pooling)] == [0, 0, 0]
    assert "2 measured live" in measured[0].stderr and "2 recorded" in recorded[0].stderr
    assert "torch" in measured[1] and not (recorded[1] | pooling[1]) & TORCH
    assert measured[0].stdout == recorded[0].stdout


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "required: COMMAND"),
        (("tabel5",), "there is no 'tabel5'; did you mean table5"),
        (("data", "audti"), "there is no 'audti'; did you mean audit?"),
        (("qqq",), "there is no 'qqq'; see --help"),
        (("table5", "--format", "xml"), "there is no 'xml'; choose from terminal"),
        (("esc50", "--run", "some"), "there is no 'some'; choose from missing, none, all"),
        (("table5", "--sedes", "2"), "unrecognized arguments: --sedes 2; did you mean --seeds"),
        (("esc50", "--folds", "0"), "0: pass a whole number of at least 1"),
        (("esc50", "--seeds", "9" * 5000), "pass a whole number of at least 1"),
        (("esc50", "--checkpoint-minutes", "nan"), "nan: pass a positive number of minutes"),
        (("claims", "--device", "cpu"), "unrecognized arguments: --device cpu"),
        (("table1", "--micro-batch", "2"), "unrecognized arguments: --micro-batch 2"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else "",
)
def test_a_wrong_word_is_status_2_with_a_close_match_or_the_choices(arguments: tuple[str, ...], message: str) -> None:
    done = call(*arguments)
    assert done.status == 2
    assert done.out == "" and "usage:" in done.err
    assert message in done.err.splitlines()[-1]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ESC-50's layout: five folds of two clips."""
    return make_esc50_folder(tmp_path_factory.mktemp("small") / "esc50", per_fold=1)


def test_esc50_without_its_data_says_how_to_give_it(nothing_recorded: tuple[str, Path]) -> None:
    assert "--data esc50=" in call("esc50", *nothing_recorded).only_error()


def test_a_folder_that_does_not_exist_is_named() -> None:
    assert "/nonexistent/esc50" in call("esc50", "--data", "esc50=/nonexistent/esc50").only_error()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--folds", "9"), ("--folds 9", "5 folds")),
        (("--preset", "huge"), ("'huge'", "demo", "debug")),
        (("--device", "abacus", "--preset", "debug"), ("--device abacus",)),
        (("--data", "imagenet=/tmp"), ("imagenet", "esc50")),
    ],
    ids=lambda value: "=".join(value) if value[0].startswith("--") else "",
)
def test_an_option_that_cannot_be_used_is_one_line(
    small: Path, tmp_path: Path, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    line = call("esc50", "--data", f"esc50={small}", "--records", tmp_path, *options).only_error()
    assert all(part in line for part in parts)


def test_a_corrupt_record_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{\n")
    assert f"{tmp_path}/train.jsonl:1: not JSON" in call("table5", "--records", tmp_path).only_error()


def test_only_the_first_process_prints_a_table(
    monkeypatch: pytest.MonkeyPatch, nothing_recorded: tuple[str, Path]
) -> None:
    monkeypatch.setenv("RANK", "1")
    for format in ("parquet", "terminal"):
        done = call("table2", "--run", "none", "--format", format, *nothing_recorded)
        assert (done.status, done.out) == (0, "")


def test_the_tracker_of_the_command_line_reaches_the_run(tmp_path: Path, small: Path) -> None:
    done = train(small, tmp_path / "records", "--log-with", "none")
    assert done.status == 0
    assert not list((tmp_path / "runs").rglob("events.out.tfevents*"))


# --- training, recording and reusing --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workplace:
    data: Path
    records: Path
    first: Outcome

    def again(self, *options: str) -> Outcome:
        return train(self.data, self.records, *options)


def train(data: Path, records: Path, *options: str) -> Outcome:
    folders = ("--records", records, "--runs", records.parent / "runs")
    return call(
        "esc50", "--preset", "debug", "--folds", "1", "--device", "cpu", "--data", f"esc50={data}", *folders, *options
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """One fold of a folder with a truncated, an empty, a silent and a stereo file, trained once."""
    folder = tmp_path_factory.mktemp("work")
    data = make_esc50_folder(folder / "esc50", per_fold=2)
    cut_short(data / "audio/1-0-0.wav")
    (data / "audio/2-0-0.wav").write_bytes(b"")
    soundfile.write(data / "audio/1-1-0.wav", np.stack([tone(300, rate=44_100)] * 2, axis=1), 44_100)
    soundfile.write(data / "audio/3-0-0.wav", np.zeros(16_000), 16_000)
    return Workplace(data, folder / "records", train(data, folder / "records", "--format", "json"))


def test_a_folder_with_bad_files_trains_both_models_and_says_so(trained: Workplace) -> None:
    assert trained.first.status == 0
    table = json.loads(trained.first.out)
    top1 = {cell["row"]: cell for cell in table["rows"] if cell["column"] == "top1"}
    assert set(top1) == {"ast_debug", "mast_debug", "baseline", "majority class"}
    for cell in (top1["ast_debug"], top1["mast_debug"]):
        assert (cell["status"], cell["n"], cell["paper"]) == ("measured", 3, None)
        assert cell["ci"][0] <= cell["measured"] <= cell["ci"][1]
        assert "3 of 4 test clips" in cell["conditions"]
    notes = "\n".join(table["notes"])
    assert "Not used, clips or rows: 2: 1-0-0 (truncated), 2-0-0 (zero-byte)" in notes
    assert "rows: 1: 3-0-0 (silent)" in notes
    assert "Paired on the same 3 test clips" in notes
    for name in ("1-0-0.wav: truncated", "2-0-0.wav: zero-byte", "3-0-0.wav: silent"):
        assert name in trained.first.err


def test_the_record_tells_how_many_clips_were_listed_and_kept(trained: Workplace) -> None:
    runs = load_records(trained.records).of_kind(TrainedRun)[:2]
    for run in runs:
        assert (run.listed, run.kept, run.test_listed, run.test_kept) == (20, 18, 4, 3)
        fatal = [(problem.clip_id, problem.reason) for problem in run.problems if problem.fatal]
        assert fatal == [("1-0-0", "truncated"), ("2-0-0", "zero-byte")]
        assert (run.scale, run.multilabel) == ("demo", False)
        assert run.environment.device_type == "cpu"
        assert len(run.history) == run.epochs == 1
        assert (trained.records / str(run.predictions)).is_file()
    assert runs[0].test_sha256 == runs[1].test_sha256


def test_a_second_call_reuses_the_records_and_prints_the_same_table(
    trained: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reproduce.training.runner.run_experiment", lambda *_: pytest.fail("trained again"))
    before = (trained.records / "train.jsonl").read_bytes()
    again = trained.again("--format", "json")
    assert (again.status, again.out) == (0, trained.first.out)
    assert "2 recorded, 0 to train" in again.err
    assert (trained.records / "train.jsonl").read_bytes() == before


def test_run_none_finds_the_runs_that_left_out_broken_clips(trained: Workplace) -> None:
    again = trained.again("--format", "json", "--run", "none")
    assert (again.status, again.out) == (0, trained.first.out)
    assert "2 recorded, 0 to train" in again.err
    assert "the recorded runs left out 2 of these clips" in again.err


def test_demo_scale_runs_leave_the_papers_table_as_it_was(
    trained: Workplace, table5: dict[tuple[str, str], dict[str, Any]]
) -> None:
    done = call("table5", "--format", "json", "--records", trained.records)
    cells = {(cell["row"], cell["column"]): cell for cell in json.loads(done.out)["rows"]}
    for key, cell in table5.items():
        assert (cells[key]["measured"], cells[key]["status"]) == (cell["measured"], cell["status"])


def test_runs_by_torchaudios_front_end_are_other_runs_and_say_so(small: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchaudio.compliance.kaldi")
    records = tmp_path / "records"
    assert train(small, records).status == 0
    done = train(small, records, "--front-end", "torchaudio")
    assert done.status == 0
    assert "32 x 64 by torchaudio" in done.out
    keys = {run.front_end.implementation: run.key for run in load_records(records) if isinstance(run, TrainedRun)}
    assert set(keys) == {"batched", "torchaudio"}
    assert "torchaudio" not in train(small, records, "--run", "none").out


def test_run_none_trains_nothing_and_says_what_was_not_run(small: Path, tmp_path: Path) -> None:
    done = train(small, tmp_path / "records", "--run", "none")
    assert done.status == 0
    for model in ("ast_debug", "mast_debug"):
        assert f"not run: {model} tested on 1 seed 0" in done.err
    assert "not run" in done.out
    assert not (tmp_path / "records").exists()


def test_run_all_trains_again_and_appends(small: Path, tmp_path: Path) -> None:
    train(small, tmp_path / "records")
    before = (tmp_path / "records/train.jsonl").read_bytes()
    done = train(small, tmp_path / "records", "--run", "all")
    assert done.status == 0
    runs = load_records(tmp_path / "records").of_kind(TrainedRun)
    assert (tmp_path / "records/train.jsonl").read_bytes().startswith(before)
    assert [run.key for run in runs] == [run.key for run in runs[:2]] * 2
    assert runs[0].weights_sha256 == runs[2].weights_sha256  # and the same seed gives the same weights


def test_a_fold_without_a_usable_clip_is_one_line(tmp_path: Path) -> None:
    data = make_esc50_folder(tmp_path / "esc50", per_fold=1)
    for path in (data / "audio").glob("1-*"):
        path.write_bytes(b"")
    assert "split 1 can be used" in train(data, tmp_path / "records").only_error()


def test_two_real_folds_of_esc_10_are_read_and_planned(esc10: Path, tmp_path: Path) -> None:
    done = call("esc50", "--data", f"esc50={esc10}", "--folds", "2", "--run", "none", "--records", tmp_path)
    assert done.status == 0
    assert "400 of 400 listed clips have a file; --run none decodes none of them" in done.err
    assert done.err.count("not run: ") == 4


@pytest.mark.parametrize(
    "command",
    [
        ("table5", "--run", "none"),
        ("speed",),
        ("speed", "--against", "absent"),
        ("claims",),
        ("classes",),
        ("compare", "a", "b"),
        ("runs", "list"),
    ],
    ids=" ".join,
)
def test_a_records_folder_that_is_not_there_is_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    where = () if "--against" in command else ("--records", tmp_path / "absent")
    error = call(*command, *where).only_error()
    assert "absent: no such folder of records: runs on your own clips are in runs/records" in error


# --- output that nobody reads ---------------------------------------------------------------------------------------


def status_without_reader(code: str, both: bool) -> tuple[int, bytes]:
    """Status and stderr of Python code whose stdout (and stderr) is a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    errors = write if both else subprocess.PIPE
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=errors, cwd=ROOT, check=False)
    os.close(write)
    return done.returncode, done.stderr or b""


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("arguments", [("list",), ("--help",), ("runs", "list")], ids=" ".join)
def test_a_command_whose_reader_has_left_ends_silently(arguments: tuple[str, ...], both: bool) -> None:
    code = f"import sys; from reproduce.__main__ import main; sys.exit(main({list(arguments)!r}))"
    assert status_without_reader(code, both) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_behind_the_output_is_one_line() -> None:
    code = "import sys; from reproduce.__main__ import main; sys.exit(main(['list']))"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, cwd=ROOT)
    message = b"error: the output: No space left on device: free some and run it again\n"
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_behind_both_streams_is_a_status() -> None:
    code = "import sys; from reproduce.__main__ import main; sys.exit(main(['list']))"
    with open("/dev/full", "w") as full:
        assert subprocess.run([sys.executable, "-c", code], stdout=full, stderr=full, cwd=ROOT).returncode == 2


def test_another_broken_pipe_stays_an_error() -> None:
    code = "from reproduce.broken_pipe import until_reader_leaves\ndef fail(): raise BrokenPipeError\n"
    done = subprocess.run([sys.executable, "-c", f"{code}until_reader_leaves(fail)"], cwd=ROOT, capture_output=True)
    assert done.returncode == 1 and b"BrokenPipeError" in done.stderr
