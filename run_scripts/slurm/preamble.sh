#!/usr/bin/env bash
# Sourced first by the scripts of this folder: where the project is, and what they were called with.
# SLURM runs a copy of a script, which lies elsewhere; it knows where the script was.
set -euo pipefail
arguments=("$@")
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=run_scripts/slurm/job.sh
source "$ROOT/run_scripts/slurm/job.sh"
