"""Weight files are read without running their code; files that cannot be used give one line."""

from __future__ import annotations

import fractions
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.weight_files import CheckpointError, read_state_dict

pytestmark = pytest.mark.usefixtures("one_thread", "fixed_seed")


@pytest.mark.parametrize("wrapper", [None, "model", "model_state", "state_dict"])
def test_torch_files_are_unwrapped_and_hashed(tmp_path: Path, wrapper: str | None) -> None:
    weights = {"module.a.weight": torch.arange(3.0), "module.a.bias": torch.ones(1)}
    path = tmp_path / "weights.pyth"
    torch.save(weights if wrapper is None else {wrapper: weights, "epoch": 3, "cfg": "TRAIN: ..."}, path)
    state_dict, sha256 = read_state_dict(path)
    assert list(state_dict) == ["a.weight", "a.bias"]
    assert torch.equal(state_dict["a.weight"], torch.arange(3.0))
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.arange(3.0)}, path)
    assert torch.equal(read_state_dict(path)[0]["a"], torch.arange(3.0))


def _torch_bytes(content: Any, tmp_path: Path) -> bytes:
    path = tmp_path / "content"
    torch.save(content, path)
    return path.read_bytes()


def test_unusable_files_say_what_they_are(tmp_path: Path) -> None:
    optimiser = torch.optim.Adam([nn.Parameter(torch.zeros(2))]).state_dict()
    weights = _torch_bytes({"a": torch.zeros(100)}, tmp_path)
    cases = {
        "empty.pth": (b"", "is empty"),
        "truncated.pth": (weights[: len(weights) // 2], "corrupt"),
        "noise.pth": (bytes(range(256)), "corrupt"),
        "noise.safetensors": (bytes(range(256)), "corrupt"),
        "page.pth": (b"<!DOCTYPE html>", "is a web page"),
        "pointer.bin": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        "code.pth": (_torch_bytes({"a": fractions.Fraction(1, 2)}, tmp_path), "contains pickled code"),
        "adam.pth": (_torch_bytes(optimiser, tmp_path), "state of an optimiser"),
        "best_optim_state.pth": (weights, "state of an optimiser"),
        "numbers.pth": (_torch_bytes({"a": 1, "b": torch.zeros(1)}, tmp_path), "'a' is no tensor"),
        "nothing.pth": (_torch_bytes({}, tmp_path), "it is empty"),
        "tensor.pth": (_torch_bytes(torch.zeros(2), tmp_path), "contains a Tensor"),
        "weights.npz": (weights, "unknown suffix"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as caught:
            read_state_dict(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no such file"):
        read_state_dict(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match=r"is a folder: .*model.safetensors"):
        read_state_dict(tmp_path)
