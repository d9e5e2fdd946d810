#!/usr/bin/env bash
#SBATCH --job-name=format_notes
#SBATCH --nodes=1 --ntasks=1
#SBATCH --requeue --open-mode=append --signal=B:TERM@120
# Notes to text, a task of an array for each input file: OUTPUT_DIR/<name of the file>/*.txt.
#   NOTES='/data/notes/*.csv.gz' OUTPUT_DIR=/data/text run_scripts/slurm/format_notes.sh
# Takes the variables of run_scripts/format_notes.sh, and its flags behind. Duplicates are found within
# a file. A task that is stopped goes on with its work when it is given again.
set -euo pipefail
CPUS=${CPUS:-8}
MEMORY=${MEMORY:-8G}
TIME=${TIME:-08:00:00}
TASKS_AT_A_TIME=${TASKS_AT_A_TIME:-16}
# shellcheck source=run_scripts/slurm/preamble.sh
source "${ROOT:-${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/../..}}/run_scripts/slurm/preamble.sh" "$@"

require_variable NOTES "files or globs, comma-separated, that all nodes reach"
require_variable OUTPUT_DIR "a folder that all nodes reach"
list=$(expand_files "$NOTES") || exit
submit --cpus-per-task="$CPUS" --mem="$MEMORY" --time="$TIME" \
  --array="0-$(($(wc -l <<<"$list") - 1))%$TASKS_AT_A_TIME"

file=$(input_of_task "$NOTES")
NOTES=$file OUTPUT_DIR=$OUTPUT_DIR/$(name_of "$file") exec "$ROOT/run_scripts/format_notes.sh" "$@"
