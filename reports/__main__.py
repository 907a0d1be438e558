"""`python -m reports`: the report and its figures, from stored records. Needs no torch."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import reproduce.blas  # noqa: F401  # the first, before NumPy
from reproduce.broken_pipe import until_reader_leaves
from reproduce.collector import freeze_modules
from reproduce.errors import InputError
from reproduce.records.naming import OWN_RECORDS_DIR
from reproduce.records.store import default_records

BUILD_DIR = Path("reports/build")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; what stands in its way is one line and status 2."""
    return until_reader_leaves(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        allow_abbrev=False,
        description="Write report.md, report.html, report.pdf and the figures from the stored records.",
    )
    parser.add_argument("--records", type=Path, default=default_records(), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=BUILD_DIR, metavar="DIR", help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        if not options.records.is_dir():
            raise InputError(f"--records {options.records}: no such folder: your own runs are in {OWN_RECORDS_DIR}")
        from reports.build import build_report

        freeze_modules()
        written, lacking = build_report(options.records, options.out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted: {options.out} may hold files of an earlier report: run it again", file=sys.stderr)
        return 128 + signal.SIGINT
    for path in written:
        print(path)
    for line in lacking:
        print(line, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
