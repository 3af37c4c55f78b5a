"""What a person sees of a command: notes on standard output, progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..generation.sampling import Callback, StepInfo
    from ..long.executor import Progress


class Console:
    """One command's output. At most one progress bar is open at a time.

    Args:
        quiet: print nothing but what :meth:`result` or :meth:`answer` is given.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self._bar: Any = None

    def say(self, text: str) -> None:
        """A line or more on standard output, above a bar that is open."""
        if self.quiet:
            return
        if self._bar is None:
            print(text, flush=True)
        else:
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def stage(self, text: str) -> None:
        """What is being done now."""
        if not self.quiet:
            print(f"{text} ...", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """A line on standard error, in quiet too."""
        self.close()
        print(text, file=sys.stderr, flush=True)

    def figures(self, report: Mapping[str, Any]) -> None:
        """The times of a run or of all windows, what HERO did, whether the camera was followed, the scale,
        and how near a rendered clip's depth came."""
        times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report["seconds"].items())
        self.say(f"time: {times}")
        self.say(report["hero"]["summary"] if report["hero"] else "HERO: off")
        if camera := report.get("camera"):
            self.say(camera["summary"])
            if camera["warning"]:
                self.say(f"warning: {camera['warning']}")
        if seen := report.get("camera_in_video"):
            self.say(f"in the finished video: {seen['summary']}")
        if scale := report.get("scale"):
            self.say(scale["summary"])
        if truth := report.get("depth_against_truth"):
            self.say(
                f"depth against the rendered truth, median aligned, sky left out: Abs Rel "
                f"{truth['abs_rel']:.3f}, delta1 {truth['delta1']:.3f} (for information)"
            )

    def result(self, folder: Path, files: Iterable[str]) -> None:
        """Where the results are; the only line in quiet."""
        self.answer(folder if self.quiet else f"{folder}: {', '.join(files)}")

    def answer(self, text: object) -> None:
        """What the command was for, in quiet too."""
        print(text, flush=True)

    def close(self) -> None:
        """End the bar, whatever it has reached."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def steps(self, name: str) -> Callback:
        """A sampling callback that draws a progress bar."""

        def advance(step: StepInfo) -> None:
            if step.index == 0:
                self._open(step.steps, name)
            self._move(step.index + 1)

        return advance

    def windows(self) -> Callable[[Progress], None]:
        """A callback of `aether.long.reconstruct.reconstruct` that draws one progress bar for all windows."""

        def advance(progress: Progress) -> None:
            if self._bar is None:
                self._open(progress.total, "")
            self._bar.set_description(f"window {progress.window + 1} of {progress.windows}", refresh=False)
            self._move(progress.done)

        return advance

    def _open(self, total: int, name: str) -> None:
        from tqdm import tqdm

        self.close()
        # Every update is a line of its own where the output is a file.
        pause = 0.1 if sys.stderr.isatty() else 30
        self._bar = tqdm(total=total, desc=name, unit="step", disable=self.quiet, mininterval=pause)

    def _move(self, done: int) -> None:
        # A bar that is disabled does not count.
        self._bar.update(done - self._bar.n)
        if done == self._bar.total:
            self.close()
