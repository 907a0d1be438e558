"""What a model costs: parameters and multiply-accumulates (MACs), per block and per kind. Nothing is printed.

One MAC is one multiply and one add. There are two ways of counting, because the paper's misses the attention products:

- **module-only**, the paper's: what ptflops 0.6.9 (May 2022) sees through module hooks. Every Linear and Conv
  weight is one MAC per output position (a convolution's bias one more, a Linear's bias one per call), a LayerNorm
  two per element, a max-pooling one per input element. Products of two activations have no module and are missing.
  ptflops 0.7 counts a Linear's bias at every position: `macs_ptflops_0_7`. (It would count `nn.GELU` too, one per
  element, but not timm's subclass of it, so published figures for timm's blocks lack it, and so does this rule.)
- **full**: module-only (0.6.9) plus the products of two activations: Q.K^T, attention.V, and MAST's Q.R.

Both are closed forms over the model's block sizes, batch 1; the items come from the model's `cost_items`. Those of
networks that are not ours are counted by torch's FlopCounterMode (`models/counted_costs.py`): module-only is then every
product with weights.
`count_with_libraries` runs torch's FlopCounterMode, fvcore and ptflops beside them, on the unfused path: fused kernels
hide their products from all three (pytorch#195460, ptflops#142).
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from models.classifier import CLOSED_FORM, SpectrogramClassifier
from models.cost_items import MODULE_KINDS, PRODUCT_KINDS, PTFLOPS_0_7_KINDS, BlockShape, CostItem


@dataclass(frozen=True)
class Complexity:
    """Cost of one forward pass of one clip.

    Args:
        parameters: of the model.
        parameters_paper: by the paper's convention.
        items: MACs by block and kind.
        shapes: tokens that leave each block.
        counter: "closed form", or the library that counted `items`.
    """

    parameters: int
    parameters_paper: int
    items: tuple[CostItem, ...]
    shapes: tuple[BlockShape, ...]
    counter: str = CLOSED_FORM

    @property
    def macs_module_only(self) -> int:
        """MACs by the paper's rule."""
        return sum(item.macs for item in self.items if item.kind in MODULE_KINDS)

    @property
    def macs_ptflops_0_7(self) -> int:
        """MACs as ptflops 0.7 counts them."""
        return sum(item.macs for item in self.items if item.kind in MODULE_KINDS + PTFLOPS_0_7_KINDS)

    @property
    def macs_full(self) -> int:
        """MACs with the products of two activations."""
        return sum(item.macs for item in self.items if item.kind in MODULE_KINDS + PRODUCT_KINDS)


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, trainable or frozen."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_parameters_paper(model: SpectrogramClassifier) -> int:
    """Parameters by the paper's convention, which counts two classifiers of AST's code that nothing uses."""
    return count_parameters(model) + model.paper_only_parameters


def measure_complexity(model: SpectrogramClassifier) -> Complexity:
    """Cost of `model` for one clip of its input size: ours in closed form. Works on the meta device too."""
    items, shapes = tuple(model.cost_items()), tuple(model.block_shapes())
    return Complexity(count_parameters(model), count_parameters_paper(model), items, shapes, model.cost_counter)


def _flop_counter(model: nn.Module, x: torch.Tensor) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() / 2


def _fvcore(model: nn.Module, x: torch.Tensor) -> float:
    from fvcore.nn import FlopCountAnalysis

    return float(FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())


def _ptflops(backend: str) -> Callable[[nn.Module, torch.Tensor], float]:
    def count(model: nn.Module, x: torch.Tensor) -> float:
        from ptflops import get_model_complexity_info

        macs, _ = get_model_complexity_info(
            model,
            tuple(x.shape[1:]),
            input_constructor=lambda _: {"x": x},
            as_strings=False,
            print_per_layer_stat=False,
            verbose=False,
            backend=backend,
        )
        if macs is None:
            raise RuntimeError(f"ptflops ({backend} backend) could not count this model")
        return float(macs)

    return count


LIBRARY_COUNTERS: dict[str, Callable[[nn.Module, torch.Tensor], float]] = {
    "torch FlopCounterMode": _flop_counter,
    "fvcore": _fvcore,
    "ptflops (aten)": _ptflops("aten"),
    "ptflops (pytorch)": _ptflops("pytorch"),
}


def count_with_libraries(model: SpectrogramClassifier, attention: str = "reference") -> dict[str, float]:
    """MACs of one clip by each library's rule, with attention computed by `attention`.

    On the "reference" path all but "ptflops (pytorch)" see every product.

    Args:
        model: with weights on a real device, in float32, neither compiled nor frozen; left as it was.
        attention: one of the model's attention paths; ignored by a model without any.
    """
    parameter = next(model.parameters())
    x = torch.zeros(1, model.config.in_chans, *model.config.input_size, device=parameter.device)
    training, counts = model.training, {}
    try:
        model.eval()
        for name, counter in LIBRARY_COUNTERS.items():
            # fvcore and ptflops print and log; a counter should only return a number.
            with (
                torch.no_grad(),
                model.attention_by(attention),
                contextlib.redirect_stdout(io.StringIO()),
                _quiet("fvcore.nn.jit_analysis"),
            ):
                counts[name] = counter(model, x)
    finally:
        model.train(training)
    return counts


@contextlib.contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # fvcore uses torch.jit
            yield
    finally:
        logger.setLevel(level)
