"""Run `predict`, `embed`, `evaluate` and `inspect`: apply a trained model to sounds. Imports torch."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from reproduce.cli.progress import log, print_result, progress_bar
from reproduce.cli.study_options import path_of
from reproduce.cli.windows import asks_for_windows, predict_in_windows, window_batches
from reproduce.datasets import ClipIndex, dataset_spec, location_of, read_variant
from reproduce.efficiency.compilation import compile_model
from reproduce.environment import choose_device, choose_precision, with_weights_in
from reproduce.errors import InputError
from reproduce.evaluation.embedding_files import EmbeddingRows, check_suffix, write_embeddings
from reproduce.evaluation.inference import (
    InferenceOptions,
    TrainedModel,
    evaluate,
    find_audio_files,
    index_of_sounds,
    predict_index,
    top_classes,
)
from reproduce.evaluation.predict import Predictions
from reproduce.evaluation.relative_positions import inspect, record_inspection
from reproduce.evaluation.sources import open_model
from reproduce.metrics.headline import headline

TOP = 3  # classes per sound


def run_predict(options: argparse.Namespace) -> int:
    """Print the most probable classes of every sound, or of every window of it."""
    inference = _inference_options(options)
    sounds = _find_sounds(options)
    trained = _load(options, inference.device, inference.precision, options.compile)
    index = index_of_sounds(sounds, trained)
    if asks_for_windows(options):
        return predict_in_windows(options, trained, index, inference)
    predictions = _predict_whole(trained, index, inference)
    used = [sounds[position] for position in predictions.positions]
    _print_classes(used, top_classes(trained, predictions, options.top or TOP), options.format)
    return 0


def _print_classes(sounds: list[Path], rows: list[dict[str, list[tuple[str, float]]]], format: str) -> None:
    if format == "json":
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
    elif format == "csv":
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


def run_embed(options: argparse.Namespace) -> int:
    """Write the embeddings of sounds, of a data set's clips, or of their windows to a file."""
    check_suffix(options.out)
    inference = _inference_options(options)
    if bool(options.sounds) == bool(options.data):
        raise InputError("embed: pass either sounds, or a data set by --data NAME=PATH, whose labels are then written")
    labelled = not options.sounds
    index = _read_data(options) if labelled else None
    sounds = _find_sounds(options)
    trained = _load(options, inference.device, inference.precision, options.compile)
    index = index or index_of_sounds(sounds, trained)

    def parts() -> Iterator[EmbeddingRows]:
        if asks_for_windows(options):
            for batch in window_batches(options, trained, index, inference):
                stretch = batch.starts, batch.ends
                yield EmbeddingRows.of_clips(
                    index, batch.positions, batch.embeddings, batch.logits, labelled=labelled, stretch=stretch
                )
        else:
            whole = _predict_whole(trained, index, inference)
            yield EmbeddingRows.of_clips(index, whole.positions, whole.embeddings, whole.logits, labelled=labelled)

    rows, width = write_embeddings(options.out, parts(), trained.labels)
    print_result(f"{options.out}: {rows} embeddings of {width} numbers\n")
    return 0


def _unseen(trained: TrainedModel, dataset: str, splits: Iterable[str]) -> str:
    """Advice: the splits without training clips. Of another data set only what the model was trained on is known."""
    if not trained.trained_on:
        return ""
    if trained.dataset != dataset:
        return f"; the model was trained on {', '.join(trained.trained_on)} of {trained.dataset}"
    unseen = sorted({*splits} - {*trained.trained_on})
    return f"; the model was not trained on {', '.join(unseen)}" if unseen else ""


def _seen(trained: TrainedModel, dataset: str, splits: Iterable[str]) -> str:
    """What to warn of: test clips that were training clips, or may have been; "" if neither."""
    seen = sorted({*splits} & {*trained.trained_on})
    if trained.trained_on and trained.dataset != dataset:
        parts = f"{', '.join(trained.trained_on)} of {trained.dataset}"
        return f"the model was trained on {parts}: if clips of these are among the test clips, the score is too high"
    return f"the model was trained on {', '.join(seen)}: the score does not apply to other clips" if seen else ""


def run_evaluate(options: argparse.Namespace) -> int:
    """Print a trained model's scores on a data set's test clips, or on another split or fold."""
    inference = _inference_options(options)
    trained = _load(options, inference.device, inference.precision, options.compile)
    spec = dataset_spec(options.name)
    index = read_variant(spec.name, path_of(spec.name, options), options.variant, follow_outside=options.follow_outside)
    splits = (options.split,) if options.split else spec.test_splits
    if not splits or not len(test := index.where_split(*splits)):
        advice = _unseen(trained, spec.name, index.listed)
        raise InputError(f"--split: choose the split to evaluate from {', '.join(sorted(index.listed))}{advice}")
    if warning := _seen(trained, spec.name, splits):
        log(f"warning: {warning}")
    with progress_bar("evaluate", total=len(test)) as bar:
        metrics, predictions = evaluate(trained, test, inference, bar.update)
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


# --- what they share --------------------------------------------------------------------------------------------------


def _load(options: argparse.Namespace, device: str, precision: str = "float32", compiled: bool = False) -> TrainedModel:
    """The model of `--model`, with the front end of `--front-end`."""
    trained = open_model(options.model, device, options.function)
    trained = replace(trained, model=with_weights_in(precision, trained.model))
    if compiled:
        compile_model(trained.model, device)
    if options.front_end is None:
        return trained
    return replace(trained, front_end=replace(trained.front_end, implementation=options.front_end))


def _inference_options(options: argparse.Namespace) -> InferenceOptions:
    device = choose_device(options.device)
    precision = choose_precision(options.precision, device)
    return InferenceOptions(device=device, crops=options.crops, batch_size=options.batch, precision=precision)


def _find_sounds(options: argparse.Namespace) -> list[Path]:
    return find_audio_files(options.sounds, lambda folder, reason: log(f"not read: {folder}: {reason}"))


def _read_data(options: argparse.Namespace) -> ClipIndex:
    """All clips of the one data set that `--data` names, with their labels."""
    if len(options.data) > 1:
        raise InputError("--data: pass one data set")
    spec = dataset_spec(options.data[0].partition("=")[0])
    folder = location_of(spec.name, options.data, options.datasets)
    return read_variant(spec.name, folder, options.variant, follow_outside=options.follow_outside)


def _predict_whole(trained: TrainedModel, index: ClipIndex, inference: InferenceOptions) -> Predictions:
    with progress_bar("predict", total=len(index)) as bar:
        predictions = predict_index(trained, index, inference, bar.update)
    _log_problems(predictions)
    if predictions.cut and inference.crops == 1:
        seconds = f"{trained.front_end.seconds:.2f} s"
        sounds = "sound is" if predictions.cut == 1 else "sounds are"
        log(
            f"note: {predictions.cut} {sounds} longer than the model's input, and only the first {seconds} of each "
            "count: pass --window for all of a sound, or --crops N for a mean over it"
        )
    return predictions


def _log_problems(predictions: Predictions) -> None:
    for problem in predictions.problems:
        log(f"{'not used' if problem.fatal else 'warning'}: {problem.message}")
