#!/usr/bin/env bash
# Gives a checkpoint entries for the words of one's own text, to go on training from.
#   INIT_CHECKPOINT=biobert INPUT_FILE=text/discharge_summary.txt OUTPUT_DIR=biobert_extended run_scripts/extend_vocab.sh
# Config and vocabulary are looked for beside the checkpoint. Further flags of extend_vocab go behind, for example
# --num_new_entries=2000.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

require_variable INIT_CHECKPOINT "a checkpoint: its prefix, its .index file or its folder"
require_variable INPUT_FILE "text files or globs, comma-separated"
require_variable OUTPUT_DIR "a new folder"

MODEL_DIR="$INIT_CHECKPOINT"
[ -d "$MODEL_DIR" ] || MODEL_DIR="$(dirname "$MODEL_DIR")"

exec "$PYTHON" -m bert_clinical.extend_vocab \
  --init_checkpoint="$INIT_CHECKPOINT" \
  --bert_config_file="${BERT_CONFIG_FILE:-$MODEL_DIR/bert_config.json}" \
  --vocab_file="${VOCAB_FILE:-$MODEL_DIR/vocab.txt}" \
  --do_lower_case="${DO_LOWER_CASE:-False}" \
  --input_file="$INPUT_FILE" \
  --output_dir="$OUTPUT_DIR" \
  "$@"
