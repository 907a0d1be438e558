"""Run `python -m reproduce data VERB`: audit, shard or measure a data set, or write a stand-in for one.

Each verb imports what it needs when it runs. No torch here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.cli import options as o
from reproduce.cli.command import PROGRAM, Command
from reproduce.cli.progress import counting_bar, log_files, print_result, progress_bar

if TYPE_CHECKING:
    from reproduce.datasets import ClipIndex

ALL = "all"


def _data_set_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="data set, see `list`")
    o.add_locations(parser)


def _workers_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=o.at_least(1), metavar="N", help="decoding threads (default: one per core)")


def _audit_options(parser: argparse.ArgumentParser) -> None:
    _data_set_options(parser)
    o.add_variant(parser, "the one with most clips")
    o.add_format(parser, ("terminal", "markdown", "json"))
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="report and state of the audit (default: runs/audit/NAME)"
    )
    _workers_option(parser)


def run_audit(options: argparse.Namespace) -> int:
    """Decode every clip, write the report on usable clips and print it."""
    from reproduce.data.audit import examine_clips, read_for_audit
    from reproduce.data.audit_report import render, write_report
    from reproduce.data.audit_summary import iter_faults, summarise

    index = read_for_audit(options.name, _folder(options), options.variant, follow_outside=options.follow_outside)
    out = options.out or Path("runs") / "audit" / options.name
    with progress_bar("audit", total=len(index)) as bar:
        examinations = examine_clips(index, out / "clips.jsonl", workers=options.workers, on_clip=bar.update)
    report = summarise(index, examinations)
    written = write_report(report, iter_faults(index, examinations), out)
    print_result(render(report, options.format))
    log_files(written)
    return 0


def _standin_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default=ALL, metavar="NAME", help=f"data set, or all {o.DEFAULT}")
    parser.add_argument("--clips", type=int, metavar="N", help="clips over all splits (default: about 500)")
    parser.add_argument("--seed", type=int, default=0, help=o.DEFAULT)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/standin"), metavar="DIR", help=f"folder of the data sets {o.DEFAULT}"
    )


def run_standin(options: argparse.Namespace) -> int:
    """Write the requested stand-ins and print how to use them."""
    from reproduce.datasets.standin.write import STANDINS, write_standin

    for name in STANDINS if options.name == ALL else (options.name,):
        folder = options.out / name
        with counting_bar(f"standin {name}", "file") as on_progress:
            write_standin(name, folder, clips=options.clips, seed=options.seed, progress=on_progress)
        print_result(f"{STANDINS[name].title}: {folder}; use it as --data {name}={folder}\n")
    return 0


def _shard_options(parser: argparse.ArgumentParser) -> None:
    _data_set_options(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the shards and their index.json")
    o.add_variant(parser)
    parser.add_argument("--clips-per-shard", type=o.at_least(1), default=1000, metavar="N", help=o.DEFAULT)
    _workers_option(parser)


def run_shard(options: argparse.Namespace) -> int:
    """Pack the clips into shards and print their contents."""
    from reproduce.data.content import default_cache
    from reproduce.data.shard_writer import write_shards

    index = _read(options)
    with progress_bar("shard", total=len(index)) as bar:
        shards = write_shards(index, options.out, options.clips_per_shard, options.workers, bar.update, default_cache())
    fatal = [problem for problem in shards.problems if problem.fatal]
    size_mib = sum(shard.bytes for shard in shards.shards) / 2**20
    print_result(
        f"{options.out}: {shards.clips()} of {sum(shards.listed.values())} listed clips in {len(shards.shards)} shards "
        f"of {size_mib:.1f} MiB together; {len(fatal)} unusable, named in index.json\n"
    )
    return 0


def _stats_options(parser: argparse.ArgumentParser) -> None:
    _data_set_options(parser)
    o.add_variant(parser)
    parser.add_argument(
        "--clips", type=o.at_least(1), metavar="N", help="a random sample of the training clips (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help=f"seed of sample and augmentation {o.DEFAULT}")
    parser.add_argument(
        "--check", action="store_true", help="compare the front end with torchaudio's on these clips instead"
    )
    o.add_format(parser, ("terminal", "json"))
    _workers_option(parser)


def run_stats(options: argparse.Namespace) -> int:
    """Print the mean and standard deviation of the training clips' log-mels; with `--check`, compare front ends.

    The status is 1 where the front ends differ.
    """
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
    if options.check:
        from reproduce.data.front_end_check import check_front_ends

        with progress_bar("check", total=len(index)) as bar:
            check = check_front_ends(index, stats_spec(spec.clip_seconds), options.workers, bar.update)
        print_result((json.dumps(check.to_dict(), indent=2) if options.format == "json" else check.text()) + "\n")
        return 0 if check.passed else 1
    with progress_bar("stats", total=len(index)) as bar:
        stats_options = StatsOptions(seed=options.seed, workers=options.workers)
        stats = measure_stats(index, stats_spec(spec.clip_seconds), stats_options, on_clip=bar.update)
    described = describe_stats(stats, index, spec, options.seed)
    print_result((json.dumps(described, indent=2) if options.format == "json" else stats_text(described)) + "\n")
    return 0


def _folder(options: argparse.Namespace) -> Path:
    """Return the folder of the data set; InputError if the name is unknown or the folder is missing."""
    from reproduce.datasets import location_of

    return location_of(options.name, options.data, options.datasets)


def _read(options: argparse.Namespace) -> ClipIndex:
    """Read the data set in the requested variant."""
    from reproduce.datasets import read_variant

    return read_variant(options.name, _folder(options), options.variant, follow_outside=options.follow_outside)


DATA_COMMANDS = tuple(
    Command(
        name=f"data {verb}",
        group="data",
        help=help,
        example=f"{PROGRAM} data {verb} {example}",
        add_options=add_options,
        run=f"{__name__}:run_{verb}",
    )
    for verb, help, example, add_options in (
        (
            "audit",
            "count listed, present and usable clips beside the paper's counts",
            "vggsound --data vggsound=DIR",
            _audit_options,
        ),
        ("standin", "write a small synthetic stand-in in a data set's official layout", "vggsound", _standin_options),
        ("shard", "pack the clips into WebDataset tar shards", "vggsound OUT --data vggsound=DIR", _shard_options),
        (
            "stats",
            "log-mel mean and standard deviation, by AST's rule and over all frames",
            "vggsound --data vggsound=DIR",
            _stats_options,
        ),
    )
)
