"""Write web/constants.js, the numbers of the page that the libraries have too, or compare it.

    python scripts/page_constants.py          # write
    python scripts/page_constants.py --check  # only compare; the exit status is 1 if it differs

It holds HERO's presets in the words of the widgets, which they are written into.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from hero_engine import PRESETS  # noqa: E402 (the repository's, whatever is installed)
from hero_engine.hero.widgets import widgets_of  # noqa: E402

FILE = ROOT / "web/constants.js"
_HEAD = "// Written by scripts/page_constants.py from Python: change it there, run that.\n"


def constants() -> dict[str, Any]:
    """By name, what the page has of Python."""
    return {"PRESETS": {name: widgets_of(config) for name, config in PRESETS.items()}}


def text() -> str:
    """What web/constants.js holds."""
    parts = (
        f"export const {name} = Object.freeze({json.dumps(value, indent=2)});\n"
        for name, value in constants().items()
    )
    return "\n".join([_HEAD, *parts])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(arguments)
    same = FILE.exists() and FILE.read_text(encoding="utf-8") == text()
    if options.check and not same:
        print("differs: web/constants.js; python scripts/page_constants.py writes it")
        return 1
    if not same:
        FILE.write_text(text(), encoding="utf-8", newline="\n")
        print("written: web/constants.js")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
