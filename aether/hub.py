"""Paths and Hugging Face repositories: where a named thing lies on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from .errors import InputError
from .weights import PICKLES

Progress = Callable[[str], None]

_REPO_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (*PICKLES, ".safetensors", ".json")


def existing(path: str | Path, field: str) -> Path:
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(field, f"{path} does not exist")
    return path


def resolve(
    source: str | Path, field: str, cache: Path | None, patterns: tuple[str, ...], say: Progress
) -> Path:
    """A path as it is; a repository's name as the folder that it was downloaded to."""
    if not isinstance(source, (str, Path)) or not str(source):
        raise InputError(field, f"{source!r} is not a path or the name of a Hugging Face repository")
    path = Path(source).expanduser()
    if path.exists():
        return path
    if not _REPO_NAME.fullmatch(str(source)) or path.suffix in _FILES:
        raise InputError(
            field,
            f"{source} does not exist, and is not the name of a Hugging Face repository (organisation/name)",
        )
    say(f"{field}: {source} from Hugging Face")
    return _download(str(source), field, cache, patterns)


def _download(repo: str, field: str, cache: Path | None, patterns: tuple[str, ...]) -> Path:
    """Fetch what is not there yet. huggingface_hub resumes, shows its own progress bars and checks sizes."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(repo, allow_patterns=list(patterns), cache_dir=cache))
    except GatedRepoError as error:
        raise InputError(
            field, f"{repo} wants its terms accepted: do so on its page, then run `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(
            field,
            f"{repo} is neither a path here nor a repository on Hugging Face (or it is private): check it",
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            field,
            f"{repo} could not be fetched ({reason}); check the connection and try again, it will resume",
        ) from error
