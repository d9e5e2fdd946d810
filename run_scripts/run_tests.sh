#!/usr/bin/env bash
# Sets up .venv with the test extra and runs every check: lint, format, types, scripts, tests.
# Arguments go to pytest, for example: run_tests.sh -m 'not slow' tests/test_tokenization.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=run_scripts/stages.sh
source run_scripts/stages.sh

# check COMMAND...: runs a check and says how long it took.
check() {
  local begin=$SECONDS
  run_stage "$@"
  echo "($((SECONDS - begin)) s: $1 ${2:-})"
}

check run_scripts/set_up.sh test sql
bin=.venv/bin

check "$bin/ruff" check .
check "$bin/ruff" format --check .
check "$bin/mypy"
check "$bin/shellcheck" -x run_scripts/*.sh run_scripts/*/*.sh .ci/run
# It is built for x86_64 alone.
[[ ! -x $bin/hadolint ]] || check "$bin/hadolint" Dockerfile

# Two processes share two cores well: most tests wait for one core's worth of TensorFlow.
exec "$bin/python" -m pytest -n "${TEST_PROCESSES:-2}" --dist worksteal "$@"
