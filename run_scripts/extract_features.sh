#!/usr/bin/env bash
# One vector for each note of a CSV or Parquet file: the mean over its WordPieces in the last layer.
#   MODEL_DIR=transformers INPUT_FILE=NOTEEVENTS.csv.gz OUTPUT_FILE=vectors.parquet run_scripts/extract_features.sh
# A folder with a checkpoint needs --do_lower_case, and BioBERT's --gelu=erf, behind.
# POOLING= (empty) makes Google's JSON lines of a file with a text on each line.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

require_variable MODEL_DIR "a transformers folder, or one with checkpoint, config and vocabulary"
require_variable INPUT_FILE "notes, or a text on each line"
require_variable OUTPUT_FILE "a name that ends in .npy or .parquet"

pooling=()
[[ -z "${POOLING-mean}" ]] || pooling=(--pooling="${POOLING:-mean}")

exec "$PYTHON" -m bert_clinical.extract_features \
  --model_dir="$MODEL_DIR" \
  --input_file="$INPUT_FILE" \
  --output_file="$OUTPUT_FILE" \
  --max_seq_length="${MAX_SEQ_LENGTH:-128}" \
  --batch_size="${BATCH_SIZE:-32}" \
  "${pooling[@]}" \
  "$@"
