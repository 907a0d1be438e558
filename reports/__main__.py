"""`python -m reports`: figures from the stored records. Needs no torch."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from reproduce.errors import InputError
from reproduce.records import RECORDS_DIR, RunRecord, load_records
from reproduce.selection import cost_of

BUILD_DIR = Path("reports/build")


def main() -> int:
    """Draw what the records allow; a missing record is one line and status 2."""
    parser = argparse.ArgumentParser(prog="python -m reports", description="Draw figures from the stored records.")
    parser.add_argument("--records", type=Path, default=RECORDS_DIR, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=BUILD_DIR, metavar="DIR", help="default: %(default)s")
    options = parser.parse_args()
    try:
        for path in draw_all(options.records, options.out):
            print(path)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def draw_all(records_dir: Path, out: Path) -> list[Path]:
    """Write every figure as SVG and PNG; returns their paths."""
    # matplotlib stamps the time into SVG otherwise: the same records should give the same bytes.
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "mast-vs-ast", "svg.fonttype": "path", "font.size": 10})
    from matplotlib import pyplot

    from reports.figures import plot_macs, plot_tokens

    costs = _costs(load_records(records_dir), records_dir)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 3.6), width_ratios=(3, 2), layout="constrained")
    plot_tokens(left, costs)
    plot_macs(right, costs)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"architecture.{suffix}" for suffix in ("svg", "png")]
    for path in paths:
        figure.savefig(path, dpi=160)
    pyplot.close(figure)
    return paths


def _costs(records: list[RunRecord], records_dir: Path) -> dict[str, RunRecord]:
    costs = {}
    for model in ("ast", "mast"):
        record = cost_of(records, f"{model}_base")
        if record is None:
            raise InputError(f"{records_dir}: no cost record of {model}_base: run `python -m reproduce costs` first")
        costs[model] = record
    return costs


if __name__ == "__main__":
    sys.exit(main())
