"""Run checkpoints: whole or not at all, the one before kept, damage named; and one process a run."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reproduce.errors import InputError
from reproduce.training import checkpointing
from reproduce.training.checkpointing import KEPT, delete_run_state, load_run_state, locked, save_run_state


def state_of(number: float) -> dict[str, Any]:
    return {"model": {"weight": torch.full((50,), number)}, "epoch": int(number), "history": [{"loss": number}]}


def refuse(line: str) -> None:
    pytest.fail(f"warned: {line}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = save_run_state(tmp_path / "run", 3, 120, state_of(3))
    assert path.name == "epoch-0003-step-000120.pt"
    state = load_run_state(tmp_path / "run", refuse)
    assert state is not None
    assert torch.equal(state["model"]["weight"], torch.full((50,), 3.0))
    assert (state["epoch"], state["history"]) == (3, [{"loss": 3.0}])


def test_a_folder_without_checkpoints_has_no_state(tmp_path: Path) -> None:
    assert load_run_state(tmp_path, refuse) is None
    assert load_run_state(tmp_path / "nowhere", refuse) is None


def test_the_newest_counts_and_the_one_before_is_kept(tmp_path: Path) -> None:
    for epoch, step in [(0, 9), (0, 100), (1, 0), (12, 3), (2, 5)]:
        save_run_state(tmp_path, epoch, step, state_of(epoch))
    assert KEPT == 2
    kept = ["epoch-0002-step-000005.pt", "epoch-0012-step-000003.pt"]
    assert names(tmp_path) == sorted([*kept, *(f"{name}.sha256" for name in kept)])
    state = load_run_state(tmp_path, refuse)
    assert state is not None and state["epoch"] == 12


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose_the_sum(path: Path) -> None:
    path.with_suffix(".pt.sha256").unlink()


def spoil_the_sum(path: Path) -> None:
    path.with_suffix(".pt.sha256").write_bytes(b"\xff\xfe\x00")


DAMAGES = [truncate, empty, flip_a_byte, lose_the_sum, spoil_the_sum]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    earlier, last = (save_run_state(tmp_path, epoch, 0, state_of(epoch)) for epoch in (1, 2))
    damage(last)
    warned: list[str] = []
    state = load_run_state(tmp_path, warned.append)
    assert state is not None and state["epoch"] == 1
    assert warned == [f"{last}: this checkpoint is damaged; going back to {earlier.name}"]


def test_where_all_are_damaged_the_run_starts_anew_and_says_so(tmp_path: Path) -> None:
    earlier, last = (save_run_state(tmp_path, epoch, 0, state_of(epoch)) for epoch in (1, 2))
    truncate(last)
    flip_a_byte(earlier)
    warned: list[str] = []
    assert load_run_state(tmp_path, warned.append) is None
    assert warned == [
        f"{last}: this checkpoint is damaged; going back to {earlier.name}",
        f"{earlier}: this checkpoint is damaged; starting from the beginning",
    ]


def test_a_checkpoint_of_another_schema_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_run_state(tmp_path, 1, 0, state_of(1))
    monkeypatch.setattr(checkpointing, "SCHEMA", 2)
    warned: list[str] = []
    assert load_run_state(tmp_path, warned.append) is None
    assert len(warned) == 1


def write_half(content: Any, file: Any) -> None:
    file.write(b"half of it")
    full_disk()


def torchs_own(*_: Any) -> None:
    raise RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file\nframe #0")


@pytest.mark.parametrize(
    ("module", "function", "failure"),
    [
        (torch, "save", write_half),
        (torch, "save", torchs_own),
        (os, "fsync", full_disk),
        (os, "replace", full_disk),
        (Path, "write_text", full_disk),
    ],
    ids=["half written", "torch's own error", "fsync", "replace", "sum"],
)
def test_a_disk_that_fills_leaves_the_earlier_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, function: str, failure: Callable[..., None]
) -> None:
    save_run_state(tmp_path, 1, 0, state_of(1))
    before = names(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(module, function, failure)
        with pytest.raises(OSError) as error:
            save_run_state(tmp_path, 2, 0, state_of(2))
    assert "\n" not in str(error.value)
    assert names(tmp_path) == before
    state = load_run_state(tmp_path, refuse)
    assert state is not None and state["epoch"] == 1
    save_run_state(tmp_path, 2, 0, state_of(2))  # and once there is room again
    state = load_run_state(tmp_path, refuse)
    assert state is not None and state["epoch"] == 2


def test_a_real_full_disk_is_an_oserror(tmp_path: Path) -> None:
    """/dev/full takes the place of the file that is written."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    folder = tmp_path / "run"
    folder.mkdir()
    opened = open

    def open_full(path: Any, mode: str) -> Any:
        return opened("/dev/full", mode)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpointing, "open", open_full, raising=False)
        with pytest.raises(OSError):
            save_run_state(folder, 1, 0, state_of(1))
    assert names(folder) == []


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "epoch-0001-step-000003.tmp").write_bytes(b"half")
    (tmp_path / "epoch-0001-step-000003.pt.tmp").write_bytes(b"half")
    (tmp_path / "epochs.jsonl").write_text("{}\n")
    save_run_state(tmp_path, 1, 5, state_of(1))
    kept = ["epoch-0001-step-000005.pt", "epoch-0001-step-000005.pt.sha256", "epochs.jsonl"]
    assert names(tmp_path) == kept


def test_a_finished_run_keeps_its_logs_and_no_checkpoints(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_run_state(tmp_path, epoch, 0, state_of(epoch))
    (tmp_path / "epochs.jsonl").write_text("{}\n")
    (tmp_path / "epoch-0002-step-000001.tmp").write_bytes(b"half")
    delete_run_state(tmp_path)
    assert names(tmp_path) == ["epochs.jsonl"]


def test_a_run_that_another_process_trains_is_refused_in_one_line(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "run"),
        pytest.raises(InputError, match="another process is training this run") as error,
        locked(tmp_path / "run"),
    ):
        pass
    assert str(tmp_path / "run") in str(error.value) and "\n" not in str(error.value)
    with locked(tmp_path / "run"):  # given back
        pass


def test_a_lock_left_by_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with locked(tmp_path), open(tmp_path / "lock") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
