#!/usr/bin/env bash
# Sets up .venv with the test extra and runs every check: lint, format, types, scripts, tests.
# Arguments go to pytest, for example: run_tests.sh -m 'not slow' tests/test_tokenization.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run_scripts/set_up.sh test sql
bin=.venv/bin

"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
"$bin/shellcheck" -x run_scripts/*.sh .ci/run

# Two processes share two cores well: most tests wait for one core's worth of TensorFlow.
exec "$bin/python" -m pytest -n "${TEST_PROCESSES:-2}" --dist worksteal "$@"
