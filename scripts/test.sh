#!/usr/bin/env bash
# Set up an environment of its own and run the tests. Arguments go to pytest: scripts/test.sh -m "not slow"
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
comfyui="$(comfyui_folder)"
environment .venv-test library,test,evaluation "$comfyui"
exec .venv-test/bin/python -m pytest "$@"
