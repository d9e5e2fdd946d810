#!/usr/bin/env bash
#SBATCH --job-name=transformers
#SBATCH --nodes=1 --ntasks=1
#SBATCH --requeue --open-mode=append --signal=B:TERM@120
# The end of the recipe: evaluates the last checkpoint and makes a transformers folder of it.
#   INPUT_FILE='/data/tfrecords/*.tfrecord' MODEL_DIR=/data/model BIOBERT_DIR=biobert OUTPUT_DIR=/data/transformers \
#     run_scripts/slurm/transformers.sh
set -euo pipefail
CPUS=${CPUS:-8}
MEMORY=${MEMORY:-16G}
TIME=${TIME:-02:00:00}
# shellcheck source=run_scripts/slurm/preamble.sh
source "${ROOT:-${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/../..}}/run_scripts/slurm/preamble.sh" "$@"

require_variable INPUT_FILE "TFRecord files or globs, comma-separated, or a folder of them, that the node reaches"
require_variable MODEL_DIR "the folder of a run"
require_variable BIOBERT_DIR "the folder of the checkpoint that the run began from"
require_variable OUTPUT_DIR "a new folder"
submit --cpus-per-task="$CPUS" --mem="$MEMORY" --time="$TIME"

if [[ -d $INPUT_FILE ]]; then
  # Patients who were held out, where there are such; the training data else, as the original did.
  INPUT_FILE=$(examples_in "$INPUT_FILE" held_out || examples_in "$INPUT_FILE") || exit
fi
export INPUT_FILE BERT_CONFIG_FILE=$BIOBERT_DIR/bert_config.json VOCAB_FILE=$BIOBERT_DIR/vocab.txt
OUTPUT_DIR=$MODEL_DIR run_stage "$ROOT/run_scripts/evaluate.sh"
INIT_CHECKPOINT=$MODEL_DIR run_stage "$ROOT/run_scripts/convert_to_transformers.sh" "$@"
