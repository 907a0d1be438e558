"""The options of `train` and of the studies on folds, and their typed values. No torch here."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from reproduce.cli import options as o
from reproduce.datasets import dataset_spec, list_datasets, location_of
from reproduce.datasets.locations import expand_home
from reproduce.errors import InputError, displayable
from reproduce.experiments.model_names import ModelName
from reproduce.records.store import default_records

TRAIN, TUNE = "train", "tune"
OWN_DATASETS = ("csv", "folder")  # a user's own clips
NORMALISE = ("data", "ast")
LONGEST_NAME = 100
GENERIC = {"manifest", "list", "index", "meta", "metadata", "labels", "annotations", "clips", "data", "files"}


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """What the user asks of a study.

    Args:
        study: "train", or the table that the study fills: "esc50", "tune", "equal_macs", "pooling", ...
        dataset: registered name.
        path: folder or CSV of the data set, or folder of its shards.
        name: of the corpus in tables and records.
        variant: of the data set; None selects its first.
        preset: registered name, or path of a TOML file.
        changes: fields of the preset to change, as texts.
        models: of `--models`; None for the preset's.
        front_end: what computes the log-mels, see `AudioSpec`; None for the preset's.
        seconds: length of the input; None fits it.
        normalise: "data", "ast", or None for the data set's own way.
        class_balanced: whether every class is drawn alike; None lets the class counts decide.
        weights: initial weights.
        folds: test folds at most; None for all.
        seeds: number of seeds.
        fold: fold that scores the rates of `tune`; "" for the preset's.
        without: whether `components` trains MAST without one component each too.
        figures: folder of the figure of `data_efficiency`; None for the other studies, which draw none.
        dry_run: describe the data and the settings, and stop.
        format: of the table.
        training: see there.
    """

    study: str
    dataset: str
    path: Path
    name: str
    variant: str | None
    preset: str
    changes: dict[str, str]
    models: tuple[ModelName, ...] | None
    front_end: str | None
    seconds: float | None
    normalise: str | None
    class_balanced: bool | None
    weights: str
    folds: int | None
    seeds: int
    fold: str
    without: bool
    figures: Path | None
    dry_run: bool
    format: str
    training: o.TrainingOptions

    @property
    def is_own(self) -> bool:
        """Whether the clips are the user's own."""
        return self.dataset in OWN_DATASETS

    @classmethod
    def of(cls, options: argparse.Namespace) -> StudyOptions:
        """Convert the options of `add_train`, `add_tune` or `add_study`.

        Raises:
            InputError: an unknown data set, no folder for it or two, or a field that cannot be changed so.
        """
        dataset = dataset_of(options)
        path = path_of(dataset, options)
        if options.records is None:
            options.records = options.runs / "records" if dataset in OWN_DATASETS else default_records()
        name = _name_of(dataset, path, options.corpus)
        return cls(
            study=getattr(options, "study", TRAIN),
            dataset=dataset,
            path=path,
            name=name,
            variant=getattr(options, "variant", None),
            preset=options.preset,
            changes=o.parse_overrides(options.set),
            models=options.models,
            front_end=options.front_end,
            seconds=options.seconds,
            normalise=options.normalise,
            class_balanced=options.class_balanced,
            weights=options.weights,
            folds=getattr(options, "folds", None),
            seeds=getattr(options, "seeds", 1),
            fold=getattr(options, "fold", None) or "",
            without=getattr(options, "without", False),
            figures=getattr(options, "figures", None),
            dry_run=options.dry_run,
            format=options.format,
            training=replace(o.TrainingOptions.of(options), name=name),
        )


def dataset_of(options: argparse.Namespace) -> str:
    """The registered data set; InputError for another name, and for a folder or CSV in its place."""
    name = getattr(options, "name", "esc50")
    if name not in list_datasets() and Path(name).exists():
        dataset = "folder" if Path(name).is_dir() else "csv"
        raise InputError(
            f"{name}: this is a path, not the name of a data set: write {options.command} {dataset} {shlex.quote(name)}"
        )
    return dataset_spec(name).name


def prints_records(options: argparse.Namespace) -> bool:
    """Whether to print a study's records: of a registered data set, with nothing given that only training needs."""
    if dataset_of(options) in OWN_DATASETS or options.dry_run or options.run == "all":
        return False
    given = (options.data, options.datasets, options.set, options.models, getattr(options, "path", None))
    return not any(given)


def path_of(dataset: str, options: argparse.Namespace) -> Path:
    """Return the folder or CSV of a data set: PATH after its name, or that of `--data` or `--datasets`.

    Raises:
        InputError: there is none, or two, or it is of another kind.
    """
    path = getattr(options, "path", None)
    if path is None:
        try:
            return location_of(dataset, options.data, options.datasets)
        except InputError as error:
            if dataset in OWN_DATASETS and not options.data and options.datasets is None:
                raise InputError(f"{dataset} needs its data: {options.command} {dataset} PATH") from error
            raise
    if any(pair.partition("=")[0] == dataset for pair in options.data):
        raise InputError(f"{path}: --data {dataset}=... names another path; keep one")
    path = expand_home(path)
    if dataset == "folder" and path.is_file():
        wanted = (
            f"write {options.command} csv {shlex.quote(str(path))}" if path.suffix.lower() == ".csv" else "pass one"
        )
        raise InputError(f"{path}: this is a file, not a folder: {wanted}")
    return path


def _name_of(dataset: str, path: Path, name: str | None) -> str:
    """The given name; that of the user's own folder or CSV; "" for a registered data set."""
    if name is None:
        return usual_name(path) if dataset in OWN_DATASETS else ""
    if not name.strip() or len(name) > LONGEST_NAME or "/" in name or displayable(name) != name:
        raise InputError(f"--name {displayable(name)[:40]}: give up to {LONGEST_NAME} printable characters without /")
    return name.strip()


def usual_name(path: Path) -> str:
    """The CSV's name, or its folder's where the CSV has a name that says nothing."""
    path = path.absolute()
    is_csv = path.suffix.lower() == ".csv"
    name = path.stem if is_csv and path.stem.lower() not in GENERIC else (path.parent if is_csv else path).name
    return displayable(name or "root").replace("/", " ")[:LONGEST_NAME]


def seconds(text: str) -> float:
    """Parse a positive number of seconds; an argparse type."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: pass a positive number of seconds")
    return value


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train`."""
    parser.add_argument("name", metavar="NAME", help="data set, see `list`; `csv` and `folder` read your own sounds")
    add_path(parser)
    o.add_variant(parser)
    _add_shared(parser, "demo")
    o.add_comparison(parser)


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tune`."""
    parser.add_argument("name", nargs="?", default="esc50", metavar="NAME", help=f"data set, see `list` {o.DEFAULT}")
    add_path(parser)
    o.add_variant(parser)
    _add_shared(parser, "demo")
    parser.add_argument("--fold", metavar="F", help="fold that scores the rates (default: the preset's)")


def add_study(parser: argparse.ArgumentParser, preset: str) -> None:
    """Add the options of a study on a folder in ESC-50's layout."""
    _add_shared(parser, preset)
    o.add_comparison(parser)


def add_path(parser: argparse.ArgumentParser) -> None:
    """Add PATH, which `path_of` reads."""
    parser.add_argument(
        "path", nargs="?", type=Path, metavar="PATH", help="its folder or CSV; the same as --data NAME=PATH"
    )


def _add_shared(parser: argparse.ArgumentParser, preset: str) -> None:
    o.add_format(parser)
    parser.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help=f"folder of stored measurements (default: {default_records()}; for csv and folder RUNS/records)",
    )
    o.add_training(parser)
    o.add_preset(parser, preset)
    o.add_models(parser, "those of the preset")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the preset, e.g. epochs=20 or front_end.mels=128; repeatable",
    )
    clips = parser.add_argument_group("clips", "what is fitted to csv and folder unless it is given here")
    clips.add_argument(
        "--name", dest="corpus", metavar="NAME", help="name of these clips (default: that of the folder)"
    )
    clips.add_argument(
        "--seconds", type=seconds, metavar="S", help="length of the input (default: the clips' 95th percentile)"
    )
    clips.add_argument(
        "--normalise",
        choices=NORMALISE,
        help="mean and deviation of the training clips, or AST's of AudioSet (default: data for csv and folder)",
    )
    clips.add_argument(
        "--class-balanced",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="draw every class alike (default: where classes are unequal)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="describe the data, settings and time, and train nothing"
    )
