#!/usr/bin/env bash
# What a container runs: the command that it is given, a program or a script of run_scripts, by name.
#   docker run --rm -v /data:/data bert-clinical format_notes --help
#   docker run --rm -v /data:/data -e NOTES=... -e BIOBERT_DIR=... -e OUTPUT_DIR=... bert-clinical run_clinical_bert.sh
# A program of process id 1 would not end at a signal that it does not handle: so it gets another, and
# this script, which stays, hands it every signal and ends with its status.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=run_scripts/stages.sh
source "$scripts/stages.sh"
PATH=$scripts:$PATH

(($#)) || fail "found no command; expected a program such as format_notes, or a script such as run_clinical_bert.sh" 2
command -v -- "$1" >/dev/null ||
  fail "found no program $1; expected one such as format_notes, or a script such as run_clinical_bert.sh" 2
run_stage "$@"
