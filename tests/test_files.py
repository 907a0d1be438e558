"""Files are written whole or not at all: what was there survives, and nothing of a failed attempt is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from reproduce.errors import InputError
from reproduce.files import file_lock, read_arrays, write_arrays, write_whole


def write(path: Path, data: bytes, error: BaseException | None = None) -> None:
    def content(file: IO[bytes]) -> None:
        file.write(data)
        if error is not None:
            raise error

    write_whole(path, content, "cannot be written", "choose another file")


def test_missing_folders_are_made_and_what_was_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for data in (b"first", b"second"):
        write(path, data)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left on device"), InputError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_half_a_file_never_replaces_a_whole_one(
    error: BaseException, raised: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    write(path, b"whole")
    with pytest.raises(raised):
        write(path, b"half", error)
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_where_a_folder_should_be_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(InputError, match=r"file/out: cannot be written \(.+\): choose another file"):
        write(tmp_path / "file" / "out", b"data")
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_two_writers_of_one_file_never_mix_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def content(file: IO[bytes]) -> None:
        file.write(b"outer")
        write(path, b"inner")  # another writer, from start to end, in the middle of this one
        file.write(b" whole")

    write_whole(path, content, "cannot be written", "choose another file")
    assert path.read_bytes() == b"outer whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_held_lock_is_one_line_and_ends_with_its_block(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "run.lock"
    with file_lock(lock, "another process trains this run"):  # noqa: SIM117
        with (
            pytest.raises(InputError, match="another process trains this run"),
            file_lock(lock, "another process trains this run"),
        ):
            pass
    with file_lock(lock, "busy"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_lock_ends_with_its_process_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom reproduce.files import file_lock\n"
        "with file_lock(Path(sys.argv[1]), 'busy'):\n"
        "    if os.fork() == 0: os.close(1); time.sleep(5); os._exit(0)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code, str(lock)], check=False, stdout=subprocess.PIPE)
    with file_lock(lock, "the child still holds the lock"):
        assert time.monotonic() - started < 5, "the child had ended: nothing was tested"


def test_arrays_come_back_as_they_were_and_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    write_arrays(path, {"numbers": np.arange(3), "names": np.array(["a", "b"])}, "cannot be written", "free space")
    stored = read_arrays(path, "damaged", "restore it")
    assert stored is not None
    assert {name: values.tolist() for name, values in stored.items()} == {"numbers": [0, 1, 2], "names": ["a", "b"]}
    assert read_arrays(tmp_path / "absent.npz", "damaged", "restore it") is None
    np.savez(path, objects=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"arrays.npz: damaged \(.*\): restore it"):
        read_arrays(path, "damaged", "restore it")
