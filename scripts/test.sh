#!/usr/bin/env bash
# Set up an environment of its own, lint, check types, and run the tests; without arguments all, with their
# coverage. Arguments go to pytest: scripts/test.sh -m "not slow"
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
comfyui="$(comfyui_folder)"
environment .venv-test library,test,evaluation "$comfyui"
.venv-test/bin/python -m ruff check .
.venv-test/bin/python -m mypy
if [ $# -eq 0 ]; then set -- --cov; fi
# One process a core; a file's tests stay together, since they share servers and models.
exec .venv-test/bin/python -m pytest -n auto --dist loadfile "$@"
