"""What every bench shares: devices, synchronisation and the conditions stored beside the timings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reproduce.environment import describe_environment


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn; the GPU skips, out loud, where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: torch.cuda.is_available() is False")
    return str(request.param)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Versions, threads, processor and commit go into every stored benchmark."""
    machine_info["environment"] = describe_environment("cuda" if torch.cuda.is_available() else "cpu")
