"""Forward passes of both models, clip by clip, and the floor of the harness itself.

`pytest bench/ --benchmark-only` prints medians; `--benchmark-json FILE` keeps every sample.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from models import create_model
from models.pooling_attention import ATTENTION_PATHS

PAPER_INPUT = (128, 1024)
CASES = [
    *((name, "sdpa") for name in ("ast_tiny", "ast_base")),
    *((name, path) for name in ("mast_tiny", "mast_base") for path in ATTENTION_PATHS),
]


def synchronised(call: Callable[[], object], device: str) -> Callable[[], None]:
    """`call`, and then a wait until the device is done, so that the clock sees the work and not its launch."""

    def run() -> None:
        call()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def test_harness_floor(benchmark: BenchmarkFixture) -> None:
    """An empty call: timings near this one measure the harness."""
    benchmark(lambda: None)


@pytest.mark.benchmark(group="forward, batch 1, 128 x 1024, float32")
@pytest.mark.parametrize(("name", "path"), CASES)
def test_forward(benchmark: BenchmarkFixture, device: str, name: str, path: str) -> None:
    model = create_model(name, attention=path).eval().to(device)
    x = torch.randn(1, 1, *PAPER_INPUT, device=device)
    benchmark.extra_info.update(model=name, attention=path, device=device, batch=1, input_size=PAPER_INPUT)
    with torch.inference_mode():
        benchmark.pedantic(synchronised(lambda: model(x), device), rounds=5, warmup_rounds=1)
