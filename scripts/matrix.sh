#!/usr/bin/env bash
# Run the quick tests of the libraries with the oldest and the newest torch and diffusers that are supported, each
# in an environment of its own: scripts/matrix.sh [oldest|newest] [arguments for pytest]
# The oldest torch needs a Python of 3.10 to 3.12, and about 6 GB of disk: it only comes with CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

run() {
    local name="$1" extras="$2" tests="$3"
    shift 3
    echo "== $name: $TORCH"
    environment ".venv-matrix-$name" "$extras"
    ".venv-matrix-$name/bin/python" -m pip list 2>/dev/null | grep -iE '^(torch|diffusers|numpy|transformers|peft) '
    # shellcheck disable=SC2086 -- several folders
    ".venv-matrix-$name/bin/python" -m pytest -q -n auto --dist loadfile -m "not slow" $tests "$@"
}

halves="oldest newest"
case "${1:-}" in oldest | newest) halves="$1" && shift ;; esac
for half in $halves; do
    case "$half" in
        # The bounds of pyproject.toml and requirements.txt. The evaluation needs a newer torch, for cache-dit.
        oldest) TORCH="torch==2.4.1 diffusers==0.34.0 numpy==1.26.4 transformers==4.48.0" \
            run oldest library,test "tests/aether tests/hero_engine" "$@" ;;
        newest) TORCH="torch diffusers numpy transformers" \
            run newest library,test,evaluation "tests/aether tests/hero_engine tests/evaluation tests/reliability" "$@" ;;
    esac
done
