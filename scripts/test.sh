#!/usr/bin/env bash
# Set up an environment of its own, lint, check types, and run the tests: all of them, or those that the arguments
# name to pytest: scripts/test.sh -m "not slow". With --cov as the first, also say the share of the lines that they
# run, which takes a tenth longer.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
# Compiled once for all processes that tests start, ComfyUI too; nothing is written beside the sources.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX="$PWD/.venv-test/pycache"
rm -rf "$PYTHONPYCACHEPREFIX${TMPDIR:-/tmp}"/pytest-of-*  # of files that earlier runs made
comfyui="$(with_comfyui .venv-test)"
environment .venv-test library,test,evaluation "$comfyui"
.venv-test/bin/python -m ruff check .
.venv-test/bin/python -m mypy
# One process a core; a file's tests stay together, since they share servers and models, and the longest files
# come first (tests/conftest.py), not those with the most tests.
pytest=(.venv-test/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder)
if [ "${1:-}" != --cov ]; then exec "${pytest[@]}" "$@"; fi
"${pytest[@]}" --cov-report= "$@"
for package in hero_engine aether evaluation nodes; do
    echo "coverage of $package: $(.venv-test/bin/python -m coverage report --format=total --include="$package/*") %"
done
