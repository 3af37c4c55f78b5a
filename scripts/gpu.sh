#!/usr/bin/env bash
# All figures of a GPU in ten minutes, at Aether's true size with random weights: writes docs/gpu.json and docs/gpu.md.
# Usage: scripts/gpu.sh [OPTIONS OF python -m benchmarks.gpu]; --toy tries the whole on a CPU.
# With PYTHON=/path/to/python, one that has torch and diffusers is used as it is, and nothing is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

ready() {
    "$1" -c 'import sys; from importlib.util import find_spec as f; sys.exit(not (f("torch") and f("diffusers")))'
}

if [ -n "${PYTHON:-}" ] && ready "$PYTHON"; then python="$PYTHON"
else
    environment .venv-gpu library
    python=.venv-gpu/bin/python
fi

about=()
if commit="$(git rev-parse HEAD 2>/dev/null)"; then
    git diff --quiet HEAD -- aether benchmarks hero_engine 2>/dev/null || commit="$commit, changed"
    about+=(--commit "$commit")
fi
if driver="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)"; then
    about+=(--driver "$driver")
fi
exec "$python" -m benchmarks.gpu ${about[@]+"${about[@]}"} "$@"
