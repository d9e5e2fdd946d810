#!/usr/bin/env bash
# Sets up .venv with the test extra and runs every check: lint, format, types, scripts, tests.
# Arguments go to pytest, for example: run_tests.sh -m 'not slow' tests/test_tokenization.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=run_scripts/stages.sh
source run_scripts/stages.sh

run_stage run_scripts/set_up.sh test sql
bin=.venv/bin

run_stage "$bin/ruff" check .
run_stage "$bin/ruff" format --check .
run_stage "$bin/mypy"
run_stage "$bin/shellcheck" -x run_scripts/*.sh run_scripts/*/*.sh .ci/run
# It is built for x86_64 alone.
[[ ! -x $bin/hadolint ]] || run_stage "$bin/hadolint" Dockerfile

# Two processes share two cores well: most tests wait for one core's worth of TensorFlow.
exec "$bin/python" -m pytest -n "${TEST_PROCESSES:-2}" --dist worksteal "$@"
