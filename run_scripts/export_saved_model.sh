#!/usr/bin/env bash
# A SavedModel that takes text, in a numbered folder as TensorFlow Serving reads it.
#   MODEL_DIR=transformers OUTPUT_DIR=served/clinical_bert run_scripts/export_saved_model.sh
# A folder with a checkpoint needs --do_lower_case, and BioBERT's --gelu=erf, behind.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

require_variable MODEL_DIR "a transformers folder, or one with checkpoint, config and vocabulary"
require_variable OUTPUT_DIR "a folder for the model's versions"

exec "$PYTHON" -m bert_clinical.export_saved_model \
  --model_dir="$MODEL_DIR" \
  --output_dir="$OUTPUT_DIR" \
  --version="${VERSION:-1}" \
  --max_seq_length="${MAX_SEQ_LENGTH:-128}" \
  "$@"
