"""Which Chinese sentence is older than the English that it translates.

A record holds the hash of each Chinese sentence and of the English that it was written for. A sentence whose
Chinese did not change keeps its record, whatever becomes of its English. So an English sentence that changes
makes the Chinese one stale until somebody translates it anew, or confirms that the old one still fits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

Record = dict[str, str]
"""{name of a sentence: hash of its English, a space, hash of its Chinese}."""


def sentences(definitions: dict[str, Any], tips: dict[str, str]) -> dict[str, str]:
    """All sentences of a language by name, such as "HeroPatch.inputs.tau.tooltip" or "HeroPatch.tips".

    Args:
        definitions: the language's nodeDefs.json.
        tips: by node.
    """
    found: dict[str, str] = {}
    for node, words in definitions.items():
        found |= {f"{node}.{part}": words[part] for part in ("display_name", "description")}
        for part in ("inputs", "outputs"):
            for slot, texts in words[part].items():
                found |= {f"{node}.{part}.{slot}.{kind}": text for kind, text in texts.items()}
    return found | {f"{node}.tips": text for node, text in tips.items()}


def updated(
    record: Record, english: dict[str, str], chinese: dict[str, str], confirmed: Collection[str] = ()
) -> Record:
    """The record after changes.

    Args:
        english, chinese: see `sentences`.
        confirmed: names of sentences whose Chinese, as it is, fits the English, as it is.

    Raises:
        ValueError: a name in ``confirmed`` is none of a sentence.
    """
    unknown = [name for name in confirmed if name not in english]
    if unknown:
        raise ValueError(f"no sentence has the name {', '.join(unknown)}")
    result = {}
    for name in english.keys() & chinese.keys():
        now = f"{_hash(english[name])} {_hash(chinese[name])}"
        then = record.get(name)
        unchanged = then is not None and then.split()[1] == _hash(chinese[name])
        result[name] = then if unchanged and name not in confirmed else now
    return dict(sorted(result.items()))


def stale(record: Record, english: dict[str, str]) -> list[str]:
    """Names of the sentences whose English is another one than their Chinese was written for."""
    return [name for name, hashes in record.items() if hashes.split()[0] != _hash(english.get(name, ""))]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
