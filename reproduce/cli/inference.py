"""Run `predict`, `embed`, `evaluate` and `inspect`: apply a trained model to sounds. Imports torch."""

from __future__ import annotations

import argparse
import csv
import io
import json
from dataclasses import replace
from pathlib import Path

from reproduce.cli.progress import log, print_result
from reproduce.datasets import dataset_spec, location_of, read_variant
from reproduce.environment import choose_device
from reproduce.errors import InputError
from reproduce.evaluation.inference import (
    InferenceOptions,
    TrainedModel,
    evaluate,
    find_audio_files,
    load_trained_model,
    predict_files,
    save_embeddings,
    top_classes,
)
from reproduce.evaluation.predict import Predictions
from reproduce.evaluation.relative_positions import inspect, record_inspection
from reproduce.metrics.headline import headline


def run_predict(options: argparse.Namespace) -> int:
    """Print the most probable classes of every sound."""
    trained, sounds, predictions = _predict(options)
    rows = top_classes(trained, predictions, options.top)
    if options.format == "json":
        named = [
            {
                "file": str(path),
                **{
                    head: [{"label": label, "probability": probability} for label, probability in best]
                    for head, best in row.items()
                },
            }
            for path, row in zip(sounds, rows, strict=True)
        ]
        print_result(json.dumps(named, indent=1) + "\n")
    elif options.format == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("file", "head", "rank", "label", "probability"))
        for path, row in zip(sounds, rows, strict=True):
            for head, best in row.items():
                for rank, (label, probability) in enumerate(best, start=1):
                    writer.writerow((path, head, rank, label, f"{probability:.6f}"))
        print_result(text.getvalue())
    else:
        width = max(len(str(path)) for path in sounds)
        for path, row in zip(sounds, rows, strict=True):
            heads = (", ".join(f"{label} {probability:.2f}" for label, probability in best) for best in row.values())
            print_result(f"{path!s:<{width}}  {'; '.join(heads)}\n")
    return 0


def run_embed(options: argparse.Namespace) -> int:
    """Write the embeddings of every sound to an npz file."""
    _, sounds, predictions = _predict(options)
    save_embeddings(options.out, sounds, predictions)
    print_result(f"{options.out}: {len(sounds)} embeddings of {predictions.embeddings.shape[1]} numbers\n")
    return 0


def run_evaluate(options: argparse.Namespace) -> int:
    """Print a trained model's scores on a data set's test clips, or on another split or fold."""
    device = choose_device(options.device)
    trained = _load(options, device)
    spec = dataset_spec(options.name)
    folder = location_of(spec.name, options.data, options.datasets)
    index = read_variant(spec.name, folder, options.variant, follow_outside=options.follow_outside)
    splits = (options.split,) if options.split else spec.test_splits
    if not splits or not len(test := index.where_split(*splits)):
        raise InputError(f"--split: choose the splits to evaluate from {', '.join(sorted(index.listed))}")
    if seen := sorted({*splits} & {*trained.trained_on}):
        log(f"warning: the model was trained on {', '.join(seen)}: the score does not apply to other clips")
    metrics, predictions = evaluate(trained, test, InferenceOptions(device=device, crops=options.crops))
    _log_problems(predictions)
    listed = sum(index.listed.get(split, 0) for split in splits)
    name = headline(metrics)
    if options.format == "json":
        print_result(
            json.dumps({"model": trained.name, "data": spec.name, "listed": listed, **metrics}, indent=1) + "\n"
        )
        return 0
    print_result(
        f"{trained.name} on {spec.name} {', '.join(splits)}: {len(predictions.positions)} of {listed} listed clips\n"
    )
    for key, value in sorted(metrics.items(), key=lambda item: item[0] != name):
        if isinstance(value, float):
            print_result(f"  {key:<12} {value:8.3f}{'' if key.endswith('d_prime') else ' %'}\n")
    return 0


def run_inspect(options: argparse.Namespace) -> int:
    """Store a sound's log-mel and the attention bias of the model's relative positions, for the report's figures."""
    device = choose_device(options.device)
    if options.sound.is_dir():
        raise InputError(f"{options.sound}: this is a folder; pass one sound file")
    (sound,) = find_audio_files([options.sound])
    trained = _load(options, device)
    record = record_inspection(trained, sound, inspect(trained, sound, device), device, options.records)
    path = options.records / str(record.predictions)
    print_result(f"{path}: {sound.name} through {trained.name}; `python -m reports` draws it\n")
    return 0


def _load(options: argparse.Namespace, device: str) -> TrainedModel:
    """The model of `--model`, with the front end of `--front-end`."""
    trained = load_trained_model(options.model, device)
    if options.front_end is None:
        return trained
    return replace(trained, front_end=replace(trained.front_end, implementation=options.front_end))


def _predict(options: argparse.Namespace) -> tuple[TrainedModel, list[Path], Predictions]:
    device = choose_device(options.device)
    sounds = find_audio_files(options.sounds, lambda folder, reason: log(f"not read: {folder}: {reason}"))
    trained = _load(options, device)
    used, predictions = predict_files(trained, sounds, InferenceOptions(device=device, crops=options.crops))
    _log_problems(predictions)
    return trained, used, predictions


def _log_problems(predictions: Predictions) -> None:
    for problem in predictions.problems:
        log(f"not used: {problem.message}")
