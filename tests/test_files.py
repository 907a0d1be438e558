"""Files are written whole or not at all: what was there survives, and nothing of a failed attempt is left."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import pytest

from reproduce.errors import InputError
from reproduce.files import write_whole


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
