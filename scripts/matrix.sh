#!/usr/bin/env bash
# Run the quick tests of the libraries with the oldest and with the newest torch and diffusers that are supported,
# each in an environment of its own. Needs a Python of 3.10 to 3.12, for the oldest torch. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

run() {
    local name="$1"
    echo "== $name: $TORCH"
    environment ".venv-matrix-$name" library,test,evaluation
    ".venv-matrix-$name/bin/python" -m pip list 2>/dev/null | grep -iE '^(torch|diffusers|numpy|transformers|peft) '
    shift
    ".venv-matrix-$name/bin/python" -m pytest -q -n auto --dist loadfile -m "not slow" \
        tests/aether tests/evaluation tests/hero_engine tests/reliability "$@"
}

# The bounds of pyproject.toml and requirements.txt.
TORCH="torch==2.4.1 diffusers==0.34.0 numpy==1.26.4 transformers==4.48.0" run oldest "$@"
TORCH="torch diffusers numpy" run newest "$@"
