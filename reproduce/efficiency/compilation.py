"""torch.compile for training, prediction and benches: one graph per mode, replayed as a CUDA graph on a GPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models import SpectrogramClassifier, SpectrogramTransformer
from reproduce.errors import InputError

COMPILERS = ("c++", "g++", "clang++")  # that torch's compiler for CPUs may call


def compile_model(model: SpectrogramClassifier, device: str) -> None:
    """Compile `model.forward_features` in place: all but the pooling and the head.

    Names of weights do not change. The first call compiles: AST for a minute, MAST for two to five. Compiled drop path
    draws other random numbers, and sums are rounded differently.

    Raises:
        InputError: a CPU without a C++ compiler.
    """
    on_cpu = torch.device(device).type == "cpu"
    if on_cpu and not any(map(shutil.which, COMPILERS)):
        raise InputError(f"--compile needs a C++ compiler on a CPU ({', '.join(COMPILERS)}): install one, or omit it")
    mode = "default" if on_cpu else "reduce-overhead"  # the latter captures CUDA graphs
    whole = isinstance(model, SpectrogramTransformer)  # other models may have Python that no graph can hold
    compiled = torch.compile(model.forward_features, mode=mode, fullgraph=whole, dynamic=False)
    model.__dict__["forward_features"] = _OfOneBatch(compiled)


class _OfOneBatch:
    """Calls a compiled function with one batch size per mode: a smaller batch is filled up with zeros.

    Otherwise the last batch of an epoch would be compiled, and captured, once more.
    """

    def __init__(self, compiled: Callable[[Tensor], Tensor]) -> None:
        self._compiled = compiled
        self._clips: dict[bool, int] = {}

    def __call__(self, x: Tensor) -> Tensor:
        training = torch.is_grad_enabled()
        clips = self._clips[training] = max(len(x), self._clips.get(training, 0))
        return self._compiled(F.pad(x, (0, 0) * (x.ndim - 1) + (0, clips - len(x))))[: len(x)]
