#!/usr/bin/env bash
# Set up an environment of its own, lint, and run the tests. Arguments go to pytest: scripts/test.sh -m "not slow"
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
comfyui="$(comfyui_folder)"
environment .venv-test library,test,evaluation "$comfyui"
.venv-test/bin/python -m ruff check .
# One process a core; a file's tests stay together, since they share servers and models.
exec .venv-test/bin/python -m pytest -n auto --dist loadfile "$@"
