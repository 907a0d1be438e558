"""Records on disk: what is appended comes back, nothing written is lost or changed, bad lines are named."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from make_files import largest_file
from make_records import make_cost_record, make_record

from reproduce.errors import InputError
from reproduce.records import load_frame
from reproduce.records.measured_runs import CostRun
from reproduce.records.record import RunRecord
from reproduce.records.runs import SearchRun, TrainedRun
from reproduce.records.store import append_record, as_stored, to_line
from reproduce.records.store import load_records as load_runs

ROOT = Path(__file__).resolve().parents[1]
PROCESSES, RECORDS_EACH = 4, 25


def load_records(folder: Path) -> list[RunRecord]:
    """The stored records behind the runs that are read back."""
    return [run.record for run in load_runs(folder)]


def only_line(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_record_comes_back_as_it_was_appended(tmp_path: Path) -> None:
    train = make_record(history=({"epoch": 1, "loss": 0.5},), details={"é": [1, 2.5, None]}, predictions="p.npz")
    cost = make_cost_record()
    assert append_record(tmp_path, train) == tmp_path / "train.jsonl"
    assert append_record(tmp_path, cost) == tmp_path / "cost.jsonl"
    assert load_records(tmp_path) == [cost, train]


def test_records_of_one_file_come_in_the_order_of_writing(tmp_path: Path) -> None:
    for key in "bca":
        append_record(tmp_path, make_record(key=key))
    assert [record.key for record in load_records(tmp_path)] == ["b", "c", "a"]


def test_an_absent_folder_holds_no_records(tmp_path: Path) -> None:
    assert load_records(tmp_path / "nothing") == []


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    record = make_record(metrics={"map": float("nan"), "top1": 1.5}, details={"deep": [{"x": float("-inf")}]})
    line = to_line(record)
    assert "NaN" not in line and "Infinity" not in line
    append_record(tmp_path, record)
    (loaded,) = load_records(tmp_path)
    assert loaded.metrics == {"map": None, "top1": 1.5}
    assert loaded.details == {"deep": [{"x": None}]}


def test_a_record_as_stored_equals_the_one_that_is_read_back(tmp_path: Path) -> None:
    record = make_record(details={"shape": (1, 2), "score": float("nan")}, history=({"epoch": 1},))
    append_record(tmp_path, record)
    assert load_records(tmp_path) == [as_stored(record)]
    assert as_stored(record) != record


def test_appending_never_changes_earlier_bytes(tmp_path: Path) -> None:
    path = append_record(tmp_path, make_record(key="first"))
    before = path.read_bytes()
    append_record(tmp_path, make_record(key="first"))
    assert path.read_bytes()[: len(before)] == before
    assert len(load_records(tmp_path)) == 2


def append_many(folder: str, writer: int) -> None:
    for number in range(RECORDS_EACH):
        # Far longer than any buffer, so that a write in pieces would show.
        append_record(Path(folder), make_record(key=f"{writer}-{number}", details={"filler": str(writer) * 100_000}))


def test_several_processes_append_without_losing_or_tearing_a_line(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(str(tmp_path), n)) for n in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    records = load_records(tmp_path)
    assert {record.key for record in records} == {f"{w}-{n}" for w in range(PROCESSES) for n in range(RECORDS_EACH)}
    assert len(records) == PROCESSES * RECORDS_EACH
    assert all(set(record.details["filler"]) == {record.key[0]} for record in records)


@pytest.mark.parametrize("filler", [1_000, 50_000], ids=["shorter than a buffer", "longer than a buffer"])
def test_a_write_that_is_cut_off_leaves_the_file_as_it_was(tmp_path: Path, filler: int) -> None:
    record = make_record(details={"filler": "x" * filler})
    path = append_record(tmp_path, record)
    before = path.read_bytes()
    with pytest.raises(InputError) as error, largest_file(len(before) + 500):
        append_record(tmp_path, record)
    assert str(path) in only_line(error) and "--records" in str(error.value)
    assert path.read_bytes() == before
    append_record(tmp_path, record)
    assert load_records(tmp_path) == [record, record]


def test_a_disk_that_is_full_only_when_flushed_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = append_record(tmp_path, make_record())
    before = path.read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", no_space)
        with pytest.raises(InputError, match="No space left on device"):
            append_record(tmp_path, make_record())
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as error:
        append_record(tmp_path / "file" / "records", make_record())
    assert "file/records/train.jsonl" in only_line(error)


def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(InputError) as error:
        append_record(tmp_path, make_record())
    assert "train.jsonl" in only_line(error)


def replaced(record: RunRecord, **values: object) -> str:
    return json.dumps({**json.loads(to_line(record)), **values})


BAD_LINES = {
    "cut off": to_line(make_record())[:100],
    "not text": "\udcff\udcfe",
    "a number": "3",
    "foreign JSON": '{"name": "something else"}',
    "an unknown field": replaced(make_record(), colour="red"),
    "another schema": replaced(make_record(), schema=99),
    "incomplete": json.dumps({"kind": "train", "key": "k", "metrics": {}, "schema": 1}),
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, bad: str) -> None:
    path = append_record(tmp_path, make_record())
    with path.open("ab") as file:
        file.write(b"\n" + bad.encode(errors="surrogateescape") + b"\n")  # line 2 is blank, which is no fault
    append_record(tmp_path, make_record())
    with pytest.raises(InputError) as error:
        load_records(tmp_path)
    assert only_line(error).startswith(f"{path}:3: ")


def test_half_a_line_is_skipped_with_a_warning_and_set_aside_by_the_next_append(tmp_path: Path) -> None:
    path = append_record(tmp_path, make_record(key="before"))
    half = to_line(make_record(key="half"))[:-20].encode()
    with path.open("ab") as file:
        file.write(half)
    warnings: list[str] = []
    assert [run.key for run in load_runs(tmp_path, warnings.append)] == ["before"]
    (warning,) = warnings
    assert warning.startswith(f"{path}:2: skipped an incomplete record")
    append_record(tmp_path, make_record(key="after"))
    assert [run.key for run in load_runs(tmp_path, warnings.append)] == ["before", "after"]
    assert warnings == [warning]
    assert path.with_name("train.jsonl.torn").read_bytes() == half + b"\n"


def test_a_whole_line_without_its_newline_is_read(tmp_path: Path) -> None:
    path = append_record(tmp_path, make_record(key="before"))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert [record.key for record in load_records(tmp_path)] == ["before"]


def test_a_whole_line_without_its_newline_stays_when_another_is_appended(tmp_path: Path) -> None:
    """As kill -9 leaves it in the middle of a write."""
    path = append_record(tmp_path, make_record(key="first"))
    path.write_bytes(path.read_bytes()[:-1])
    append_record(tmp_path, make_record(key="second"))
    assert [run.key for run in load_records(tmp_path)] == ["first", "second"]
    assert not list(tmp_path.glob("*.torn"))


def test_a_records_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").mkdir()
    with pytest.raises(InputError) as error:
        load_records(tmp_path)
    assert "train.jsonl" in only_line(error)


DAMAGED = {
    "an unknown kind": {"kind": "speling"},
    "a model that is no text": {"experiment": {"model": {}}},
    "no classes": {"dataset": {"name": "esc50"}},
    "a recipe that is none": {"experiment": {**make_record().experiment, "recipe": 3}},
    "counts that are words": {"dataset": {**make_record().dataset, "kept": "many"}},
    "metrics in a list": {"metrics": [1, 2]},
    "a time that is none": {"created": "yesterday"},
    "more clips right than there are": {"metrics": {**make_record().metrics, "correct": 11}},
    "right clips of none": {"metrics": {"correct": 1, "top1": 50.0}},
    "a seed in words": {"seed": "0"},
    "a duration in words": {"wall_time_s": "long"},
    "a scale in a list": {"scale": ["demo"]},
    "folds that are numbers": {"experiment": {**make_record().experiment, "test_splits": [1]}},
    "a learning rate in words": {
        "experiment": {**make_record().experiment, "recipe": {**make_record().experiment["recipe"], "lr": "x"}}
    },
}


@pytest.mark.parametrize("values", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_record_that_lacks_what_its_kind_needs_is_named(values: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(replaced(make_record(), **values) + "\n")
    with pytest.raises(InputError) as error:
        load_runs(tmp_path)
    assert only_line(error).startswith(f"{path}:1: ")


@pytest.mark.parametrize("module", ["records", "records.selection", "tables", "tables.render", "paper"])
def test_what_the_report_reads_imports_no_torch_and_pandas_late(module: str) -> None:
    code = f"import sys, reproduce.{module}; print([m for m in ('torch', 'timm', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


# --- typed runs -----------------------------------------------------------------------------------------------------


def test_a_run_has_the_record_as_attributes(tmp_path: Path) -> None:
    append_record(
        tmp_path, make_record("mast_debug", fold="3", seed=2, metrics={"top1": 40.0, "map": None, "clips": 5})
    )
    (run,) = load_runs(tmp_path).of_kind(TrainedRun)
    assert (run.model, run.family, run.size, run.label) == ("mast_debug", "mast", "debug", "MAST")
    assert (run.dataset, run.variant, run.fold, run.seed) == ("esc50", "", "3", 2)
    assert (run.recipe.epochs, run.front_end.mels, run.classes["label"][0]) == (1, 32, "dog")
    assert run.metric("top1") == 40.0
    with pytest.raises(InputError, match="map was not a number"):
        run.metric("map")


OLD_AND_NEW = {
    "single-label, not stored": ({"top1": 1.0}, {}, False),
    "multi-label, not stored": ({"map": 1.0}, {}, True),
    "single-label by heads, not stored": ({"verb_top1": 1.0}, {}, False),
    "stored, against the metrics": ({"top1": 1.0}, {"multilabel": True}, True),
}


@pytest.mark.parametrize(("metrics", "data", "multilabel"), OLD_AND_NEW.values(), ids=OLD_AND_NEW.keys())
def test_multilabel_is_stored_and_guessed_for_older_records_alone(
    metrics: dict[str, float], data: dict[str, object], multilabel: bool, tmp_path: Path
) -> None:
    append_record(tmp_path, make_record(metrics=metrics, dataset=data))
    (run,) = load_runs(tmp_path).of_kind(TrainedRun)
    assert run.multilabel is multilabel


@pytest.mark.parametrize(
    "problem",
    [
        ["a.wav", "truncated", True, "a.wav: truncated"],
        {"clip_id": "a.wav", "reason": "truncated", "fatal": True, "message": "a.wav: truncated"},
    ],
    ids=["older list", "object"],
)
def test_problems_have_names_in_records_old_and_new(problem: object, tmp_path: Path) -> None:
    append_record(tmp_path, make_record(dataset={"problems": [problem]}))
    (run,) = load_runs(tmp_path).of_kind(TrainedRun)
    (read,) = run.problems
    assert (read.clip_id, read.reason, read.fatal, read.message) == ("a.wav", "truncated", True, "a.wav: truncated")


@pytest.mark.parametrize(
    "details",
    [
        {"shapes": [["block 1", 1024, 16, 64, 96, 0]], "items": [["block 1", "mlp", 7]]},
        {
            "shapes": [{"block": "block 1", "tokens": 1024, "freq": 16, "time": 64, "width": 96, "prefix_tokens": 0}],
            "items": [{"block": "block 1", "kind": "mlp", "macs": 7}],
        },
    ],
    ids=["older lists", "objects"],
)
def test_shapes_and_items_have_names_in_records_old_and_new(details: dict[str, object], tmp_path: Path) -> None:
    append_record(tmp_path, make_cost_record(details=details))
    (run,) = load_runs(tmp_path).of_kind(CostRun)
    assert (run.shapes[0].tokens, run.shapes[0].freq, run.shapes[0].width) == (1024, 16, 96)
    assert (run.items[0].kind, run.items[0].macs) == ("mlp", 7)


@pytest.mark.parametrize(
    "details",
    [
        {"libraries": {"fvcore": "many"}},
        {"libraries": {"fvcore": True}},
        {"items": [{"block": "block 1", "kind": "mlp", "macs": "7"}]},
        {"shapes": [["block 1", "1024", 16, 64, 96, 0]]},
    ],
    ids=lambda details: json.dumps(details),
)
def test_counts_that_are_no_numbers_are_named(details: dict[str, object], tmp_path: Path) -> None:
    append_record(tmp_path, make_cost_record(details=details))
    with pytest.raises(InputError, match=r"where a number should be"):
        load_runs(tmp_path)


def test_a_removed_field_of_a_recipe_is_ignored_and_a_later_one_has_its_default(tmp_path: Path) -> None:
    recipe = {**make_record().experiment["recipe"], "roll": 0}
    append_record(tmp_path, make_record(experiment={"recipe": recipe}))
    (run,) = load_runs(tmp_path).of_kind(TrainedRun)
    assert (run.recipe.optimizer, run.recipe.test_crops) == ("adamw", 1)


def test_a_search_is_no_trained_run(tmp_path: Path) -> None:
    append_record(tmp_path, make_record(kind="search"))
    runs = load_runs(tmp_path)
    assert runs.of_kind(TrainedRun) == ()
    assert len(runs.of_kind(SearchRun)) == 1


def test_times_of_any_zone_compare_in_utc(tmp_path: Path) -> None:
    append_record(tmp_path, make_record(created="2026-11-22T23:30:00+05:00"))  # 18:30 UTC
    append_record(tmp_path, make_record(created="2026-11-22T20:00:00+00:00"))
    (newest,) = load_runs(tmp_path).newest(TrainedRun)
    assert newest.created == "2026-11-22T20:00:00+00:00"


# --- all measurements as a DataFrame ----------------------------------------------------------------------------------


def test_the_frame_has_one_typed_row_per_run(tmp_path: Path) -> None:
    append_record(tmp_path, make_record("mast_debug", fold="3", seed=2, correct=4))
    append_record(tmp_path, make_cost_record("ast_base"))
    frame = load_frame(tmp_path).set_index("kind")
    assert len(frame) == 2
    assert frame.loc["train", ["model", "family", "dataset", "fold", "seed", "top1"]].tolist() == [
        "mast_debug", "mast", "esc50", "3", 2, 40.0,
    ]  # fmt: skip
    assert frame.loc["cost", "input_frames"] == 1024
    assert frame.loc["cost", ["dataset", "fold", "top1"]].isna().all()
    assert str(frame.dtypes["epochs"]) == "Int64"
    assert str(frame.dtypes["created"]) == "datetime64[us, UTC]"


def test_a_metric_named_like_a_column_keeps_both(tmp_path: Path) -> None:
    append_record(tmp_path, make_record(metrics={"top1": 1.0, "epochs": 7.0}))
    row = load_frame(tmp_path).iloc[0]
    assert (row["epochs"], row["epochs_metric"]) == (1, 7.0)


def test_a_metric_that_a_record_lacks_is_named_with_its_record(tmp_path: Path) -> None:
    append_record(tmp_path, make_record(key="abc"))
    (run,) = load_runs(tmp_path)
    with pytest.raises(InputError, match="record abc: latency_s is missing"):
        run.metrics["latency_s"]


def test_names_that_utf8_cannot_hold_are_escaped(tmp_path: Path) -> None:
    append_record(tmp_path, make_record(metrics={"top1": 1.0, "\udcff": 2.0}, experiment={"model": "\udcfe_tiny"}))
    row = load_frame(tmp_path).iloc[0]
    assert (row["model"], row["\\udcff"]) == ("\\udcfe_tiny", 2.0)


def test_an_empty_folder_gives_an_empty_frame_and_an_absent_one_an_error(tmp_path: Path) -> None:
    assert load_frame(tmp_path).empty
    with pytest.raises(InputError, match="no such folder of records"):
        load_frame(tmp_path / "absent")
