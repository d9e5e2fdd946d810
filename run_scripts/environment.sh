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

# fail MESSAGE [STATUS]: one line on standard error, then the end.
fail() {
  echo "$(basename "$0"): error: $1" >&2
  exit "${2:-1}"
}

# require_variable NAME WHAT: ends the script unless the variable has a value.
require_variable() {
  [[ -n "${!1:-}" ]] || fail "$1 is not set; expected $2" 2
}

# download URL FILE: gets a URL (or copies a local path) to a file.
download() {
  if [[ "$1" != *://* ]]; then
    [[ -f "$1" ]] || fail "$1: no such file; expected a URL or a local file"
    cp "$1" "$2"
    return
  fi
  attempt "$PYTHON" - "$1" "$2" <<'PYTHON' || fail "$1 could not be downloaded; check the network, or get the file elsewhere and name it in place of the URL"
import shutil, sys, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=60) as source, open(sys.argv[2], "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        expected = source.headers.get("Content-Length")
        if expected and target.tell() != int(expected):
            sys.exit(1)
except (OSError, ValueError):
    sys.exit(1)
PYTHON
}

# check_sha256 FILE EXPECTED VARIABLE: compares where a value is expected, else says what was found.
check_sha256() {
  local found
  found=$(sha256sum "$1" | cut -d' ' -f1)
  if [[ -z "$2" ]]; then
    echo "SHA-256 $found (not compared: set $3 to hold later downloads to it)"
  elif [[ "$found" != "$2" ]]; then
    fail "found SHA-256 $found, expected $2 ($3); the download is damaged or not the file you know"
  else
    echo "SHA-256 as expected"
  fi
}
