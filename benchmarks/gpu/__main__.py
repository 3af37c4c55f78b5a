"""All figures of a GPU, at Aether's true size with random weights, in ten minutes: `bash scripts/gpu.sh`.

    python -m benchmarks.gpu                     measure, and write gpu.json and gpu.md to docs
    python -m benchmarks.gpu --minutes 20        with more time
    python -m benchmarks.gpu --toy               the same on a CPU with a tiny model: ratios and counts only
    python -m benchmarks.gpu --tables            write gpu.md from gpu.json, and measure nothing

The file is written after every figure. A second call goes on with the parts that are not done.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from aether.files import write_file
from hero_engine.command_options import number

from .budget import Deadline, PartError, run_parts
from .parts import MINUTES, PARTS
from .record import Record, load
from .settings import TOY, Settings
from .tables import page
from .worker import Workers

ROOT = Path(__file__).parents[2]


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/gpu.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=number, default=MINUTES, help=f"all that it may take ({MINUTES:g})")
    parser.add_argument("--only", nargs="+", metavar="PART", help=", ".join(repr(p.name) for p in PARTS))
    parser.add_argument("--anew", action="store_true", help="drop what has been measured before")
    parser.add_argument("--toy", action="store_true", help="try the command: a tiny model, on a CPU")
    parser.add_argument("--tables", action="store_true", help="only write the tables of what there is")
    parser.add_argument("--out", type=Path, help="folder of gpu.json and gpu.md (docs; toy: outputs/gpu)")
    parser.add_argument("--commit", help="of the repository, for the file")
    parser.add_argument("--driver", help="of the GPU, for the file")
    return parser


def main(argv: list[str] | None = None) -> int:
    """0 where every part is done, 1 where some are not."""
    parser = options()
    arguments = parser.parse_args(argv)
    folder = arguments.out or ROOT / ("outputs/gpu" if arguments.toy else "docs")
    names = [part.name for part in PARTS]
    unknown = [name for name in arguments.only or () if name not in names]
    if unknown:
        parser.error(f"--only: {unknown[0]!r} is not one of {', '.join(map(repr, names))}")
    if arguments.tables:
        show(load(folder / "gpu.json"), folder)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is open is closed
    return measure(arguments, folder)


def measure(arguments: argparse.Namespace, folder: Path) -> int:
    """Measure the parts that are not done, and show all that there are."""
    deadline = Deadline(60 * arguments.minutes, time.monotonic)
    settings = TOY if arguments.toy else Settings()
    # More minutes are for a slower GPU; fewer for the parts that are left.
    factor = max(1.0, arguments.minutes / MINUTES)
    chosen = [part.scaled(factor) for part in PARTS if part.name in (arguments.only or [part.name])]
    with Workers(settings) as workers:
        try:
            machine = workers.machine(deadline.left())
        except PartError as error:
            raise SystemExit(f"error: {error}") from None
        head = {
            **machine,
            "driver": arguments.driver,
            "commit": arguments.commit,
            "settings": asdict(settings),
        }
        record = Record(folder / "gpu.json", head, ratios_only=settings.toy, anew=arguments.anew)
        if record.changes:
            say(f"begun anew: {', '.join(record.changes)} of the file that was there differ")
        try:
            run_parts(chosen, record, workers.measure, deadline, say)
        finally:
            show(record.document, folder)
    return 0 if record.all_done(part.name for part in chosen) else 1


def show(document: dict, folder: Path) -> None:
    """Write the page, and print it."""
    text = page(document)
    write_file(folder / "gpu.md", text)
    print(f"\n{text}", flush=True)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
