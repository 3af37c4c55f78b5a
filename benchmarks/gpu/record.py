"""The file of all figures, written anew after each of them, so that an interrupt loses nothing. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aether.files import write_file

Found = dict[str, Any]

FORMAT = 1
DONE, UNFINISHED, FAILED, SKIPPED = "done", "unfinished", "failed", "skipped"

_LONGEST = 300


class Record:
    """What has been measured so far.

    Args:
        path: of the JSON file.
        head: what the figures are of: machine, versions, commit and settings, ready for JSON.
        ratios_only: leave out all times: those of a CPU say nothing of a GPU.
        anew: drop what the file has. Without it, figures of the same head are kept.

    Attributes:
        document: what the file holds.
        changes: entries of the head that were others in the file that was there, whose figures are dropped.
    """

    def __init__(self, path: Path, head: Found, *, ratios_only: bool = False, anew: bool = False):
        self._path, self._ratios_only = path, ratios_only
        self.document: Found = {"format": FORMAT, **json.loads(json.dumps(head)), "parts": {}}
        self.changes: list[str] = []
        if path.exists() and not anew:
            self._go_on(load(path))

    def _go_on(self, before: Found) -> None:
        keys = self.document.keys() - {"parts"}
        self.changes = sorted(key for key in keys if self.document[key] != before.get(key))
        if not self.changes:
            self.document["parts"] = before["parts"]

    def _part(self, name: str) -> Found:
        return self.document["parts"].get(name, {})

    def is_done(self, name: str) -> bool:
        """Whether a part has been measured to its end."""
        return self._part(name).get("state") == DONE

    def all_done(self, names: Iterable[str]) -> bool:
        """Whether all of these parts have been measured to their end."""
        return all(map(self.is_done, names))

    def why(self, name: str) -> str:
        """Why a part is not done."""
        return self._part(name).get("error", "")

    def outcome(self, name: str) -> str:
        """A part's state, and the reason, in words."""
        return "; ".join(filter(None, (self._part(name)["state"], self.why(name))))

    def begin(self, name: str) -> None:
        """A part begins; what an earlier try has found stays until this one finds something."""
        self._put(name, UNFINISHED, error="interrupted")

    def keep(self, name: str, found: Found, seconds: float) -> None:
        """All that a part has found so far, in so many seconds."""
        self._put(name, UNFINISHED, error="interrupted", found=found, seconds=round(seconds, 1))

    def finish(self, name: str, seconds: float) -> None:
        """The part has come to its end."""
        self._put(name, DONE, seconds=round(seconds, 1))

    def fail(self, name: str, error: str) -> None:
        """The part ends with an error; what it has found stays."""
        self._put(name, UNFINISHED if self._part(name).get("found") else FAILED, error=error)

    def skip(self, name: str, error: str) -> None:
        """There is no time for the part; what an earlier try has found stays, with its reason."""
        if name not in self.document["parts"]:
            self._put(name, SKIPPED, error=error)

    def _put(self, name: str, state: str, **values: Any) -> None:
        part = {**self._part(name), **values, "state": state}
        if state == DONE:
            part.pop("error", None)
        self.document["parts"][name] = without_times(part) if self._ratios_only else part
        write_file(self._path, json.dumps(self.document, indent=1) + "\n")


def load(path: Path) -> Found:
    """The file's content.

    Raises:
        SystemExit: it is not such a file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or not isinstance(document["parts"], dict):
            raise ValueError(f"format {document['format']}, not {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(
            f"error: {path} is not a file of measurements ({error}); remove it, or use --anew"
        ) from None
    return document


def one_line(text: str) -> str:
    """The first line of an error, shortened."""
    first = next(iter(text.strip().splitlines()), "")
    return first if len(first) <= _LONGEST else f"{first[:_LONGEST]} ..."


def without_times(tree: Any) -> Any:
    """The same without the entries that are times, or rates."""
    if not isinstance(tree, dict):
        return [without_times(item) for item in tree] if isinstance(tree, list) else tree
    return {key: without_times(value) for key, value in tree.items() if not _is_time(key)}


def _is_time(key: str) -> bool:
    return key == "seconds" or key.endswith(("_seconds", "_per_second"))
