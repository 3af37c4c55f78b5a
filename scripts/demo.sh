#!/usr/bin/env bash
# Reconstruct a clip with the bundled miniature model, once without and once with HERO, and compare.
# Usage: scripts/demo.sh [CLIP [OPTIONS OF python -m aether compare]]; without a clip, one is rendered.
set -euo pipefail
clip="${1:-synthetic}"
if [ -e "$clip" ]; then clip="$(realpath "$clip")"; fi
cd "$(dirname "$0")/.."
. scripts/environment.sh
environment .venv-demo library
exec .venv-demo/bin/python -m aether compare "$clip" --out outputs/demo --overwrite "${@:2}"
