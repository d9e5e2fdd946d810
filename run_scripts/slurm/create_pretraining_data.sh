#!/usr/bin/env bash
#SBATCH --job-name=create_pretraining_data
#SBATCH --nodes=1 --ntasks=1
#SBATCH --requeue --open-mode=append --signal=B:TERM@120
# Text to examples, a task of an array for each input. An input is a file, whose examples come into
# OUTPUT_DIR, or a folder of files as format_notes.sh makes them, whose examples come into a folder of
# its name there.
#   INPUT_FILE='/data/text/*' VOCAB_FILE=biobert/vocab.txt OUTPUT_DIR=/data/tfrecords \
#     run_scripts/slurm/create_pretraining_data.sh
# Takes the variables of run_scripts/create_pretraining_data.sh, and its flags behind.
set -euo pipefail
CPUS=${CPUS:-4}
MEMORY=${MEMORY:-16G}
TIME=${TIME:-04:00:00}
TASKS_AT_A_TIME=${TASKS_AT_A_TIME:-16}
# shellcheck source=run_scripts/slurm/preamble.sh
source "${ROOT:-${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/../..}}/run_scripts/slurm/preamble.sh" "$@"

require_variable INPUT_FILE "text files or folders of them, comma-separated or globs, that all nodes reach"
require_variable VOCAB_FILE "the vocabulary of the model to be pretrained"
require_variable OUTPUT_DIR "a folder that all nodes reach"
# Text that a job before this one makes is not there yet: NUM_TASKS says how many inputs there will be.
if [[ -z "${NUM_TASKS:-}" ]]; then
  list=$(expand_files "$INPUT_FILE") || exit
  NUM_TASKS=$(wc -l <<<"$list")
fi
submit --cpus-per-task="$CPUS" --mem="$MEMORY" --time="$TIME" --array="0-$((NUM_TASKS - 1))%$TASKS_AT_A_TIME"

input=$(input_of_task "$INPUT_FILE")
if [[ -d $input ]]; then
  texts=$(find "$input" -maxdepth 1 -name '*.txt' -size +0 | LC_ALL=C sort | paste -sd,)
  [[ -n "$texts" ]] || { echo "$input: all text is empty; it has no examples" && exit; }
  name=$(basename "$input")
  # MAX_SEQ_LENGTH=128,512 has a folder for each length.
  [[ ${MAX_SEQ_LENGTH:-} != *,* ]] || OUTPUT_DIR=${OUTPUT_DIR//,//"$name",}
  OUTPUT_DIR=$OUTPUT_DIR/$name input=$texts
fi
export INPUT_FILE=$input OUTPUT_DIR
exec "$ROOT/run_scripts/create_pretraining_data.sh" "$@"
