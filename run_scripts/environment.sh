#!/usr/bin/env bash
# Sourced by the scripts of this folder: chooses the Python in PYTHON and names the project's ROOT.
# The folder stays the caller's, so that relative paths in variables mean what they say.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [[ -z "${PYTHON:-}" ]]; then
  if [[ -x $ROOT/.venv/bin/python ]]; then
    PYTHON=$ROOT/.venv/bin/python
  else
    PYTHON=python3
    export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
  fi
fi
export PYTHON ROOT

# shellcheck source=run_scripts/stages.sh
source "$ROOT/run_scripts/stages.sh"

# require_variable NAME WHAT: ends the script unless the variable has a value.
require_variable() {
  [[ -n "${!1:-}" ]] || fail "$1 is not set; expected $2" 2
}
