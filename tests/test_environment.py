"""The conditions that every record carries."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reproduce import environment
from reproduce.environment import choose_device, describe_environment, git_commit
from reproduce.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


def test_the_description_is_json_and_names_what_a_measurement_depends_on() -> None:
    described = describe_environment("cpu", "bfloat16")
    assert json.loads(json.dumps(described)) == described
    assert described["device"] and described["device_type"] == "cpu"
    assert described["precision"] == "bfloat16"
    assert described["torch_threads"] == torch.get_num_threads()
    assert described["cpu_count"] == os.cpu_count()
    assert described["libraries"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert described["python"] == ".".join(map(str, sys.version_info[:3]))
    assert (described["cuda"], described["tf32"]) == (None, False)


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda present=present: present)
        assert choose_device("auto") == device
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_here_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"--device {name} cannot be used here") as error:
        choose_device(name)
    assert "\n" not in str(error.value)


def make_checkout(folder: Path) -> None:
    """A repository with a committed file under reproduce/ and a committed record."""
    for name in ("reproduce/code.py", "reports/records/train.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old\n")
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)


def test_the_commit_says_when_code_has_changed_and_not_when_records_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    make_checkout(tmp_path)
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "reproduce/environment.py"))

    def commit() -> str:
        git_commit.cache_clear()
        return str(git_commit())

    try:
        assert re.fullmatch("[0-9a-f]{12}", commit())
        (tmp_path / "reports/records/train.jsonl").write_text("old\nnew\n")
        assert re.fullmatch("[0-9a-f]{12}", commit())
        (tmp_path / "reproduce/code.py").write_text("new\n")
        assert re.fullmatch(r"[0-9a-f]{12}\+changes", commit())
    finally:
        git_commit.cache_clear()


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    git_commit.cache_clear()
    try:
        assert git_commit() is None
    finally:
        git_commit.cache_clear()


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, reproduce.environment; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"
