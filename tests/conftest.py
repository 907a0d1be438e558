"""Shared fixtures. Real recordings live outside the repository; tests that need them skip, out loud, without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(os.environ.get("MAST_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def _shared(relative: str) -> Path:
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"needs {path} (real data that the repository does not ship; set MAST_SHARED)")
    return path


@pytest.fixture(scope="session")
def esc10() -> Path:
    """Folder in ESC-50's layout with the 400 real recordings of ESC-10."""
    return _shared("data/esc10")


@pytest.fixture(scope="session")
def inputs() -> Path:
    """Folder with small sound files that public decoders read wrongly; its README has the right answers."""
    return _shared("inputs")


@pytest.fixture(scope="session")
def annotations() -> Path:
    """Folder with real annotation files of EPIC-KITCHENS-100, VGGSound and AudioSet."""
    return _shared("data/annotations")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors are computed faster, and always alike, by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def fixed_seed() -> None:
    """torch's random numbers are the same in every run of the test."""
    torch.manual_seed(0)


@pytest.fixture
def planes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the projections; the first two dimensions stand in for UMAP, which takes long to compile."""
    from reproduce.evaluation import clustering

    seeds: list[int] = []

    def first_two(values: np.ndarray, seed: int) -> np.ndarray:
        seeds.append(seed)
        return values[:, :2]

    monkeypatch.setattr(clustering, "project", first_two)
    return seeds
