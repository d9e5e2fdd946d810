#!/usr/bin/env bash
# Sourced by the scripts of this folder: goes to the project's root and chooses the Python in PYTHON.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -z "${PYTHON:-}" ]]; then
  if [[ -x .venv/bin/python ]]; then
    PYTHON="$PWD/.venv/bin/python"
  else
    PYTHON=python3
  fi
fi
export PYTHON

# fail MESSAGE [STATUS]: one line on standard error, then the end.
fail() {
  echo "$(basename "$0"): error: $1" >&2
  exit "${2:-1}"
}
