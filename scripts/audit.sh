#!/usr/bin/env bash
# Look up the known vulnerabilities of what requirements.txt installs today. Needs pypi.org. Arguments go to pip-audit.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
if [ ! -x .venv-audit/bin/pip-audit ]; then
    "$(find_python)" -m venv .venv-audit
    .venv-audit/bin/python -m pip install --quiet "pip-audit>=2.7,<3"
fi
# Strict: what the index knows nothing about is an error, not a pass.
exec .venv-audit/bin/pip-audit --strict --requirement requirements.txt "$@"
