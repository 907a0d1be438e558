"""The command line of the fuzzer."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fuzz.job import Part
from fuzz.outcomes import WRONG, Outcome, count_table
from fuzz.runner import Session, try_inputs, try_saved

# Kind -> where it is, so that this process imports none of it; and its share of the inputs.
KINDS: Mapping[str, tuple[str, float]] = {
    "wav": ("fuzz.sounds:WAV", 1.0),
    "flac": ("fuzz.sounds:FLAC", 1.0),
    "ogg": ("fuzz.sounds:OGG", 1.0),
    "mp3": ("fuzz.sounds:MP3", 1.0),
    "containers": ("fuzz.sounds:CONTAINERS", 1.0),
    "csv": ("fuzz.lists:CSV", 1.0),
    "annotations": ("fuzz.lists:ANNOTATIONS", 1.0),
    "folder": ("fuzz.lists:FOLDER", 1.0),
    "toml": ("fuzz.lists:TOML", 1.0),
    "records": ("fuzz.measurements:RECORDS", 0.5),
    "predictions": ("fuzz.measurements:PREDICTIONS", 0.5),
    "safetensors": ("fuzz.weights:SAFETENSORS", 1.0),
    "pt": ("fuzz.weights:PT", 1.0),
    "pth": ("fuzz.weights:PTH", 1.0),
    "hdf5": ("fuzz.packed:HDF5", 1.0),
    "shards": ("fuzz.packed:SHARDS", 1.0),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Try damaged inputs and kill commands; returns 1 if anything is wrong."""
    options = _parse(arguments)
    session = Session(seed=options.seed, work=options.work.resolve(), wrong=options.wrong.resolve())
    kinds = options.kind or list(KINDS)
    if options.saved:
        outcome = try_saved(parts_of(kinds, 1)[0], options.saved, session)
        print(f"{outcome.what}: {outcome.detail}")
        return int(outcome.what == WRONG)
    parts = parts_of(kinds, options.n)
    if options.only is not None:
        parts = [replace(part, first=options.only, stop=options.only + 1) for part in parts]
    outcomes: list[Outcome] = []
    for outcome in try_inputs(parts if options.n else (), session):
        outcomes.append(outcome)
        if outcome.what == WRONG or options.verbose:
            print(f"{outcome.kind} {outcome.number}: {outcome.what}: {outcome.detail}", flush=True)
    if options.kills:
        from fuzz.kills import kill_commands

        for outcome in kill_commands(options.kills, session, options.kill or (), options.first_kill):
            outcomes.append(outcome)
            print(f"{outcome.kind} {outcome.number}: {outcome.what}: {outcome.detail}", flush=True)
    print(count_table(outcomes, list(dict.fromkeys(outcome.kind for outcome in outcomes))))
    wrong = any(outcome.what == WRONG for outcome in outcomes)
    if wrong:
        print(f"wrong inputs, each with the command that tries it again: {session.wrong}")
    return int(wrong)


def parts_of(kinds: Sequence[str], total: int) -> list[Part]:
    """The inputs of each kind, by its share of `total`; at least one."""
    shares = sum(KINDS[kind][1] for kind in kinds)
    counts = {kind: max(1, round(total * KINDS[kind][1] / shares)) for kind in kinds}
    return [Part(target=KINDS[kind][0], name=kind, first=0, stop=count) for kind, count in counts.items()]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Give damaged inputs to the suite and kill its commands. Each input ends clear (one line that "
        "names the fault), read (accepted) or wrong (traceback, crash, hang over 10 s, NaN, over 1 GiB).",
    )
    temporary = Path(tempfile.gettempdir())
    parser.add_argument("--n", type=int, default=2000, help="inputs over all kinds (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=0, help="kills of running commands (default: none)")
    parser.add_argument("--kill", action="append", metavar="NAME", help="kill this alone: train, shard ...; repeatable")
    parser.add_argument("--first-kill", type=int, default=0, metavar="NUMBER", help="go on from here; default: 0")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: %(default)s)")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="try this kind alone; repeatable")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="try this input of each kind alone")
    parser.add_argument("--saved", type=Path, metavar="DIR", help="try this saved input; needs one --kind")
    parser.add_argument("--work", type=Path, default=temporary / "mast-fuzz", help="default: %(default)s")
    parser.add_argument("--wrong", type=Path, default=temporary / "mast-fuzz-wrong", help="default: %(default)s")
    parser.add_argument("--verbose", action="store_true", help="print every outcome, not only wrong ones")
    options = parser.parse_args(arguments)
    if options.saved and len(options.kind or ()) != 1:
        parser.error("--saved needs one --kind")
    return options
