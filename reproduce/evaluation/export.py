"""A trained model as a program for other runtimes: ONNX, or torch.export. Each is checked against the model.

The program maps normalised log-mels to logits and the pooled embedding; the batch is free. Its description (front end,
class names) travels in the file: ONNX's metadata, or torch.export's extra file.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reproduce.errors import InputError
from reproduce.evaluation.inference import TrainedModel
from reproduce.evaluation.predict import as_heads
from reproduce.files import write_whole

TOLERANCE = 1e-4  # largest absolute difference of a logit or of an element of the embedding
CHECKED_BATCHES = (1, 3)
DESCRIPTION = "description.json"  # torch.export's extra file; ONNX's metadata key
PLAIN_ATTENTION = "reference"  # products and softmax alone: every runtime has these operators
_FAILURE, _REMEDY = "cannot be written", "choose another --out"

Run = Callable[[Tensor], Sequence[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A written program.

    Args:
        path: its file.
        outputs: names, in order.
        input_shape: of one clip, (channels, mels, frames).
        size_bytes: of the file.
        difference: largest absolute difference to the model, over all outputs and `CHECKED_BATCHES`.
    """

    path: Path
    outputs: tuple[str, ...]
    input_shape: tuple[int, ...]
    size_bytes: int
    difference: float


class _Program(nn.Module):
    """(B, channels, mels, frames) normalised log-mels to the logits of every head, then the embedding (B, C)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        embedding = self.model.pool(self.model.forward_features(x))
        return (*as_heads(self.model.classify(embedding)).values(), embedding)


def export_onnx(trained: TrainedModel, path: Path) -> Exported:
    """Write an ONNX model and compare what ONNX Runtime makes of it.

    Raises:
        InputError: a package is missing, an operator cannot be exported, the outputs differ by more than TOLERANCE,
            or the file cannot be written.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx imports it)
    except ImportError as error:
        raise InputError(f"--format onnx needs {error.name}: pip install 'mast-vs-ast[export]'") from None
    names = _output_names(trained)
    with _exporting(trained, "onnx"):
        program = torch.onnx.export(
            _program_of(trained),
            (_example(trained, 2),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=["log_mels"],
            output_names=list(names),
            external_data=False,
            optimize=False,  # takes minutes for MAST's 24 blocks; ONNX Runtime optimises when it loads the file
            verbose=False,
        )
        assert program is not None  # with dynamo=True
        proto = program.model_proto
        onnx.helper.set_model_props(proto, {DESCRIPTION: json.dumps(_description(trained))})
        content = proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return _checked(trained, path, content, lambda x: session.run(None, {"log_mels": x.numpy()}))


def export_torch(trained: TrainedModel, path: Path) -> Exported:
    """Write a torch.export program (.pt2) and compare what it computes when it is read back.

    Raises:
        InputError: as `export_onnx`.
    """
    file = io.BytesIO()
    with _exporting(trained, "torch-export"):
        shapes = ({0: torch.export.Dim("batch", min=1)},)
        program = torch.export.export(_program_of(trained), (_example(trained, 2),), dynamic_shapes=shapes)
        torch.export.save(program, file, extra_files={DESCRIPTION: json.dumps(_description(trained))})
        read = torch.export.load(io.BytesIO(file.getvalue())).module()
    return _checked(trained, path, file.getvalue(), lambda x: [output.numpy() for output in read(x)])


@contextmanager
def _exporting(trained: TrainedModel, format: str) -> Iterator[None]:
    """Turn what the exporters raise into one line; their warnings are about their own insides."""
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    # Exporters trace arbitrary code and wrap what it raises in types of their own, which derive from these.
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{trained.name}: cannot be exported as {format} ({reason}): try another --format") from None


def _program_of(trained: TrainedModel) -> nn.Module:
    """A copy of the model on the CPU, of operators that every runtime has."""
    model: Any = copy.deepcopy(trained.model).cpu().float().eval()
    if PLAIN_ATTENTION in model.attention_paths:
        model.set_attention(PLAIN_ATTENTION)
    return _Program(model).eval()


def _example(trained: TrainedModel, batch: int) -> Tensor:
    """Random log-mels, normalised: AST scales to a deviation of 0.5."""
    spec = trained.front_end
    generator = torch.Generator().manual_seed(batch)
    return 0.5 * torch.randn(batch, trained.model.config.in_chans, spec.mels, spec.frames, generator=generator)


def _output_names(trained: TrainedModel) -> tuple[str, ...]:
    heads = trained.model.config.num_classes
    return (*(["logits"] if isinstance(heads, int) else [f"logits_{head}" for head in heads]), "embedding")


def _description(trained: TrainedModel) -> dict[str, Any]:
    return {
        "model": trained.name,
        "front_end": trained.front_end.to_dict(),
        "labels": {head: list(names) for head, names in trained.labels.items()},
        "multilabel": trained.multilabel,
        "input": "(log_mel - mean) / (2 * std) of the front end: (batch, channels, mels, frames)",
        "outputs": list(_output_names(trained)),
    }


def _checked(trained: TrainedModel, path: Path, content: bytes, run: Run) -> Exported:
    """Compare the program with the model, and write it.

    Raises:
        InputError: the outputs differ by more than TOLERANCE, or the file cannot be written.
    """
    reference = _Program(copy.deepcopy(trained.model).cpu().float().eval())
    difference = 0.0
    for batch in CHECKED_BATCHES:
        x = _example(trained, batch)
        with torch.inference_mode():
            pairs = zip(run(x), reference(x), strict=True)
            difference = max([difference, *(float(np.abs(got - wanted.numpy()).max()) for got, wanted in pairs)])
    if not difference <= TOLERANCE:
        raise InputError(
            f"{path}: not written: the exported {trained.name} differs from the model by {difference:.2g}, more than "
            f"{TOLERANCE:g}: use another --format"
        )
    write_whole(path, lambda file: file.write(content), _FAILURE, _REMEDY)
    return Exported(
        path=path,
        outputs=_output_names(trained),
        input_shape=tuple(_example(trained, 1).shape[1:]),
        size_bytes=len(content),
        difference=difference,
    )
