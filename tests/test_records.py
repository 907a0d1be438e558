"""Records on disk: what is appended comes back, nothing written is lost or changed, bad lines are named."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from make_records import make_cost_record, make_record

from reproduce.errors import InputError
from reproduce.records.record import RunRecord, of_kind
from reproduce.records.store import append_record, as_stored, load_records, to_line

ROOT = Path(__file__).resolve().parents[1]
PROCESSES, RECORDS_EACH = 4, 25


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


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the kernel writes what fits, then refuses, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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


def test_a_line_cut_off_by_a_crash_does_not_swallow_the_next_record(tmp_path: Path) -> None:
    path = append_record(tmp_path, make_record(key="before"))
    with path.open("ab") as file:
        file.write(b'{"kind": "tra')
    append_record(tmp_path, make_record(key="after"))
    with pytest.raises(InputError, match=":2: not JSON"):
        load_records(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))  # the remedy that the message gives
    assert [record.key for record in load_records(tmp_path)] == ["before", "after"]


def test_a_records_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").mkdir()
    with pytest.raises(InputError) as error:
        load_records(tmp_path)
    assert "train.jsonl" in only_line(error)


def test_an_unknown_kind_is_an_error() -> None:
    assert of_kind([make_record(), make_cost_record()], "cost") == [make_cost_record()]
    with pytest.raises(ValueError, match="speling"):
        of_kind([], "speling")


@pytest.mark.parametrize("module", ["records", "paper", "selection", "tables", "render"])
def test_what_the_report_reads_imports_no_torch(module: str) -> None:
    code = f"import sys, reproduce.{module}; print([m for m in ('torch', 'timm', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
