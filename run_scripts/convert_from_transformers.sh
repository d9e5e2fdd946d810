#!/usr/bin/env bash
# Makes a checkpoint to start pretraining from of a BERT in a transformers folder.
#   TRANSFORMERS_DIR=bert-base-cased OUTPUT_DIR=bert_base_cased_checkpoint run_scripts/convert_from_transformers.sh
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

require_variable TRANSFORMERS_DIR "a folder with config.json, weights and vocabulary"
require_variable OUTPUT_DIR "a new folder"

exec "$PYTHON" -m bert_clinical.convert_from_transformers \
  --transformers_dir="$TRANSFORMERS_DIR" \
  --output_dir="$OUTPUT_DIR" \
  "$@"
