"""Run `export`: a trained model for other programs. Imports torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from reproduce.cli.progress import print_result
from reproduce.errors import InputError
from reproduce.evaluation.export import CHECKED_BATCHES, export_onnx, export_torch
from reproduce.evaluation.inference import TrainedModel
from reproduce.evaluation.sharing import model_card, save_for_transformers, save_shared
from reproduce.evaluation.sources import open_model
from reproduce.files import write_text

PROGRAMS = {"onnx": (".onnx", export_onnx, "ONNX Runtime"), "torch-export": (".pt2", export_torch, "torch.export")}


def run_export(options: argparse.Namespace) -> int:
    """Write a model as a program for another runtime, or as a folder to share."""
    name = Path(options.weights.replace(":", "-")).stem
    if options.format in PROGRAMS:
        suffix = PROGRAMS[options.format][0]
        out: Path = options.out or Path(name + suffix)
        if out.suffix != suffix:
            raise InputError(f"{out}: end the name of --out in {suffix}")
    else:
        out = options.out or Path(f"{name}-{options.format}")
        if out.exists() and not out.is_dir():
            raise InputError(f"{out}: is a file, and --format {options.format} writes a folder: choose another --out")
    trained = open_model(options.weights, "cpu", options.function)
    return _write_program(trained, out, options) if options.format in PROGRAMS else _write_folder(trained, out, options)


def _write_program(trained: TrainedModel, out: Path, options: argparse.Namespace) -> int:
    """Print how far the outputs of the program are from the model's."""
    _, export, runtime = PROGRAMS[options.format]
    written = export(trained, out)
    shape = ", ".join(map(str, ("batch", *written.input_shape)))
    batches = " and ".join(map(str, CHECKED_BATCHES))
    print_result(
        f"{written.path}: {trained.name}, log-mels ({shape}) to {', '.join(written.outputs)}; "
        f"{written.size_bytes / 1e6:.1f} MB; largest difference in {runtime} {written.difference:.1e} "
        f"at batches of {batches}\n"
    )
    return 0


def _write_folder(trained: TrainedModel, out: Path, options: argparse.Namespace) -> int:
    if options.format == "transformers":
        save_for_transformers(trained, out)
        use = f'ASTForAudioClassification.from_pretrained("{out}")'
    else:
        save_shared(trained, out, options.records)
        use = f'load_classifier("{out}")'
    card = model_card(trained, licence=options.licence, data_licence=options.data_licence, records=options.records)
    write_text(out / "README.md", card, "cannot be written", "choose another --out")
    print_result(f"{out}: {trained.name} with its model card; read it by {use}\n")
    return 0
