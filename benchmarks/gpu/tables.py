"""The page of all figures, made of the file alone. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .parts import COMPILED, END_TO_END, GROWTH, MEMORY, OPTIMIZED, PARTS, RATES, REPEATED
from .record import DONE, Found

_MEMORY = [part.name for part in PARTS if part.name.startswith(MEMORY)]

TITLE = "Measured on a GPU"


def page(document: Found) -> str:
    """The whole page in Markdown.

    Args:
        document: what a :class:`~benchmarks.gpu.record.Record` wrote.
    """
    parts = document["parts"]
    sections = [_head(document)]
    for title, names, table in (
        ("Rates", [RATES], _rates),
        ("Runs end to end", [END_TO_END], _race),
        ("Cheaper full steps: attention", [OPTIMIZED], _race),
        ("Cheaper full steps: compiled blocks", [COMPILED], _race),
        ("Memory", _MEMORY, _memory),
        ("Memory after several runs", [REPEATED], _repeated),
        ("Growth with the clip", [GROWTH], _growth),
    ):
        notes = [_note(name, parts.get(name)) for name in names]
        found = {name: parts[name]["found"] for name in names if parts.get(name, {}).get("found")}
        sections.append("\n\n".join(filter(None, (f"## {title}", *notes, table(found) if found else ""))))
    return "\n\n".join(sections) + "\n"


def _head(document: Found) -> str:
    frames, height, width = document["clip"]
    rows = [
        ("device", document["device"]),
        ("its memory", _gigabytes(document.get("device_bytes"))),
        ("driver", document.get("driver")),
        ("torch", document["torch"]),
        ("CUDA", document.get("cuda")),
        ("diffusers", document["diffusers"]),
        ("commit", document.get("commit")),
        ("model, random weights", document["model"]),
        ("clip", f"{frames} frames of {width} x {height}"),
    ]
    return "\n\n".join(
        [
            f"# {TITLE}",
            "Written by `bash scripts/gpu.sh` from `gpu.json`; do not edit it by hand. "
            "[performance.md](performance.md) says what is measured and how.",
            _table(["", ""], [row for row in rows if row[1]]),
        ]
    )


def _note(name: str, part: Found | None) -> str:
    """What there is to say of a part that has not come to its end."""
    if part is None:
        return f"{name}: not measured yet."
    return "" if part["state"] == DONE else f"{name}: {part['state']} ({part['error']})."


def _rates(found: Found) -> str:
    [rates] = found.values()
    rows = [["matrix product", _tera(rates.get("matrix_flops_per_second")), "", ""]]
    for name, one in rates["attention"].items():
        chosen = " (chosen by `auto`)" if name == rates.get("auto") else ""
        cells = _tera(one.get("flops_per_second")), _percent(one.get("matrix_share"))
        rows.append([f"attention `{name}`{chosen}", *cells, one.get("error", "")])
    return _table(["", "TFLOP/s", "share of the matrix rate", "does not run"], rows)


def _race(found: Found) -> str:
    [race] = found.values()
    columns = [
        f"full of {race['steps']}", "full step", "of the untouched", "matrix rate", "cached step",
        "cached / full", "by FLOPs", "run", "speed-up, sum", "medians", "bound", "cached", "counted",
    ]  # fmt: skip
    rows = [[name, *_race_cells(one)] for name, one in race["methods"].items()]
    lines = [_table(["method", *columns], rows)]
    if race["steps_taken"] < race["steps"]:
        lines.append(f"Only the first {race['steps_taken']} of {race['steps']} steps were taken.")
    if "rehearsal_seconds" in race:
        lines.append(f"Rehearsal, compiling included: {race['rehearsal_seconds']:.1f} s.")
    return "\n\n".join(lines)


def _race_cells(one: Found) -> list[str]:
    doubt = "" if one.get("believed", True) else " (above its bound)"
    failures = one.get("memory_failures")
    return [
        _text(one.get("full_steps"), "{}") + (f" (out of memory in {failures})" if failures else ""),
        _text(one.get("full_step_seconds"), "{:.3f} s"),
        _text(one["full_over_untouched"], "{:.3f}"),
        _percent(one["matrix_share"]),
        _text(one.get("cached_step_seconds"), "{:.4f} s"),
        _text(one["cached_over_full"], "{:.4f}"),
        _text(one["cached_over_full_by_flops"], "{:.4f}"),
        _text(one.get("run_seconds"), "{:.1f} s"),
        _text(one.get("speedup"), "{:.2f}x") + doubt,
        _text(one.get("speedup_by_medians"), "{:.2f}x"),
        _text(one.get("bound"), "{:.2f}x"),
        _gigabytes(one.get("cached_bytes")),
        _gigabytes(one.get("cached_bytes_counted")),
    ]


def _memory(found: Found) -> str:
    rows = [
        [
            name.removeprefix(MEMORY),
            _gigabytes(one["counted_bytes"]),
            _gigabytes(one.get("measured_bytes")),
            _text(one.get("measured_over_counted"), "{:.2f}"),
            _gigabytes(one["sampling_bytes"]),
            _text(one.get("sampling_seconds"), "{:.1f} s"),
            _text(one.get("decoding_seconds"), "{:.1f} s"),
        ]
        for name, one in found.items()
    ]
    first = next(iter(found.values()))
    what = f"whole run of {first['steps']} steps, HERO `{first['preset']}`"
    return _table(
        [what, "counted", "measured", "measured / counted", "before decoding", "sampling", "decoding"], rows
    )


def _repeated(found: Found) -> str:
    [runs] = found.values()
    rows = [[str(row["after_run"]), _bytes(row["bytes"]), _bytes(row["peak_bytes"])] for row in runs["rows"]]
    return _table(["after run", "bytes that are in use", "peak in the run"], rows)


def _growth(found: Found) -> str:
    [growth] = found.values()
    rows = [
        [
            row["method"],
            str(row["latent_frames"]),
            f"{row['predicted']:.3f}",
            f"{row['measured']:.3f}",
            f"{row['measured'] / row['predicted'] - 1:+.1%}",
            _text(row.get("run_seconds"), "{:.1f} s"),
        ]
        for row in growth["rows"]
    ]
    return _table(
        ["method", "latent frames", "time predicted", "measured", "off", f"{growth['steps']} steps"], rows
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table without the columns that are empty all the way."""
    cells = [[str(cell) for cell in row] for row in rows]
    kept = [n for n in range(len(head)) if any(row[n] for row in cells)]
    lines = [[head[n] for n in kept], ["---"] * len(kept), *([row[n] for n in kept] for row in cells)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _text(value: Any, pattern: str) -> str:
    return "" if value is None else pattern.format(value)


def _percent(share: float | None) -> str:
    return _text(share, "{:.1%}")


def _tera(rate: float | None) -> str:
    return "" if rate is None else f"{rate / 1e12:.0f}"


def _bytes(count: int) -> str:
    return f"{count:,}"


def _gigabytes(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"
