"""`python -m reproduce data VERB`: the verbs on data sets. What a verb needs is imported once it runs.

A new verb is one entry of VERBS: its options, and the function that runs it and returns the exit status.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reproduce.datasets import ClipIndex


ALL = "all"


@dataclass(frozen=True)
class Verb:
    """One subcommand of `data`: `add_options(parser)` declares what `run(options)` reads."""

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_data_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `data` and its verbs to the command line."""
    data = commands.add_parser("data", help="audit, shard or measure a data set, or synthesise a stand-in of one")
    verbs = data.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        parser = verbs.add_parser(verb.name, help=verb.help, description=verb.help)
        verb.add_options(parser)


def run_data(options: argparse.Namespace) -> int:
    """Run the verb that was asked for; returns the exit status."""
    return next(verb for verb in VERBS if verb.name == options.verb).run(options)


def add_location_options(parser: argparse.ArgumentParser) -> None:
    """Where the data set lies; read it back with `located`."""
    parser.add_argument("name", metavar="NAME", help="data set, see `list`")
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=PATH", help="where it lies, e.g. vggsound=/data/VGGSound"
    )
    parser.add_argument("--datasets", type=Path, metavar="FILE.toml", help="the same, as a [datasets] table in a file")


def located(options: argparse.Namespace) -> Path:
    """Folder of the data set `options.name`; InputError if it is unknown or nobody said where it lies."""
    from reproduce.datasets import location_of

    return location_of(options.name, options.data, options.datasets)


# --- audit -----------------------------------------------------------------------------------------------------------


def _add_audit_options(parser: argparse.ArgumentParser) -> None:
    add_location_options(parser)
    parser.add_argument("--variant", "--protocol", help="variant of the data set (default: the one with most clips)")
    parser.add_argument(
        "--format", choices=("terminal", "markdown", "json"), default="terminal", help="default: %(default)s"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="report and state of the audit (default: runs/audit/NAME)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="decoding threads (default: one a core)")


def _run_audit(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from reproduce.data.audit import examine_clips, read_for_audit
    from reproduce.data.audit_report import render, write_report
    from reproduce.data.audit_summary import iter_faults, summarise
    from reproduce.errors import InputError

    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers {options.workers}: give at least 1")
    index = read_for_audit(options.name, located(options), options.variant)
    out = options.out or Path("runs") / "audit" / options.name
    with tqdm(total=len(index), desc="audit", unit="clip", file=sys.stderr, smoothing=0.05, disable=None) as bar:
        examinations = examine_clips(index, out / "clips.jsonl", workers=options.workers, on_clip=bar.update)
    report = summarise(index, examinations)
    written = write_report(report, iter_faults(index, examinations), out)
    sys.stdout.write(render(report, options.format))
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
    return 0


# --- standin ---------------------------------------------------------------------------------------------------------


def _add_standin_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default=ALL, metavar="NAME", help="data set, or all (default: %(default)s)")
    parser.add_argument("--clips", type=int, metavar="N", help="over all splits (default: some 500, by data set)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/standin"), metavar="DIR", help="folder of folders (default: %(default)s)"
    )


def _run_standin(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from reproduce.datasets.standin.write import STANDINS, write_standin

    for name in STANDINS if options.name == ALL else (options.name,):
        folder = options.out / name
        with tqdm(desc=f"standin {name}", unit="file", file=sys.stderr, disable=None) as bar:

            def progress(done: int, files: int, bar: tqdm = bar) -> None:
                bar.total = files
                bar.update(done - bar.n)

            write_standin(name, folder, clips=options.clips, seed=options.seed, progress=progress)
        print(f"{STANDINS[name].title}: {folder}; use it as --data {name}={folder}")
    return 0


# --- shard -----------------------------------------------------------------------------------------------------------


def _add_shard_options(parser: argparse.ArgumentParser) -> None:
    add_location_options(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the shards and their index.json")
    parser.add_argument("--variant", "--protocol", help="variant of the data set (default: its own default)")
    parser.add_argument("--clips-per-shard", type=int, default=1000, metavar="N", help="default: %(default)s")
    parser.add_argument("--workers", type=int, metavar="N", help="decoding threads (default: one a core)")


def _run_shard(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from reproduce.data.content import default_cache
    from reproduce.data.shard_writer import write_shards

    index = _read(options)
    with tqdm(total=len(index), desc="shard", unit="clip", file=sys.stderr, smoothing=0.05, disable=None) as bar:
        shards = write_shards(index, options.out, options.clips_per_shard, options.workers, bar.update, default_cache())
    fatal = [problem for problem in shards.problems if problem.fatal]
    size_mib = sum(shard.bytes for shard in shards.shards) / 2**20
    print(
        f"{options.out}: {shards.clips()} of {sum(shards.listed.values())} listed clips in {len(shards.shards)} shards "
        f"of together {size_mib:.1f} MiB; {len(fatal)} unusable, named in index.json"
    )
    return 0


# --- stats -----------------------------------------------------------------------------------------------------------


def _add_stats_options(parser: argparse.ArgumentParser) -> None:
    add_location_options(parser)
    parser.add_argument("--variant", "--protocol", help="variant of the data set (default: its own default)")
    parser.add_argument("--clips", type=int, metavar="N", help="a random sample of the training clips (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of sample and augmentation (default: %(default)s)")
    parser.add_argument("--format", choices=("terminal", "json"), default="terminal", help="default: %(default)s")
    parser.add_argument("--workers", type=int, metavar="N", help="decoding threads (default: one a core)")


def _run_stats(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from reproduce.data.norm_stats import (
        StatsOptions,
        describe_stats,
        measure_stats,
        stats_spec,
        stats_text,
        training_clips,
    )
    from reproduce.datasets import dataset_spec

    spec = dataset_spec(options.name)
    index = training_clips(_read(options), spec, options.clips, options.seed)
    with tqdm(total=len(index), desc="stats", unit="clip", file=sys.stderr, smoothing=0.05, disable=None) as bar:
        how = StatsOptions(seed=options.seed, workers=options.workers)
        stats = measure_stats(index, stats_spec(spec.clip_seconds), how, on_clip=bar.update)
    described = describe_stats(stats, index, spec, options.seed)
    print(json.dumps(described, indent=2) if options.format == "json" else stats_text(described))
    return 0


def _read(options: argparse.Namespace) -> ClipIndex:
    """The data set in the variant that was asked for."""
    from reproduce.datasets import read_variant
    from reproduce.errors import InputError

    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers {options.workers}: give at least 1")
    return read_variant(options.name, located(options), options.variant)


VERBS: tuple[Verb, ...] = (
    Verb("audit", "what is listed, present and usable, beside the paper's counts", _add_audit_options, _run_audit),
    Verb("standin", "synthesise a small stand-in in a data set's official layout", _add_standin_options, _run_standin),
    Verb("shard", "pack the clips into WebDataset tar shards", _add_shard_options, _run_shard),
    Verb("stats", "log-mel mean and deviation, by AST's rule and a plain one", _add_stats_options, _run_stats),
)
