#!/usr/bin/env bash
# Stage 5: makes a transformers folder of a checkpoint, with the recipe's casing and form of GELU.
#   INIT_CHECKPOINT=model VOCAB_FILE=biobert_v1.0/vocab.txt BERT_CONFIG_FILE=biobert_v1.0/bert_config.json \
#     OUTPUT_DIR=transformers run_scripts/convert_to_transformers.sh
# Further flags of convert_to_transformers go behind, for example --dtype=float16.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

require_variable INIT_CHECKPOINT "a checkpoint or the folder of a run"
require_variable OUTPUT_DIR "a new folder"
folder=$INIT_CHECKPOINT
[[ -d "$folder" ]] || folder=$(dirname "$folder")

exec "$PYTHON" -m bert_clinical.convert_to_transformers \
  --init_checkpoint="$INIT_CHECKPOINT" \
  --bert_config_file="${BERT_CONFIG_FILE:-$folder/bert_config.json}" \
  --vocab_file="${VOCAB_FILE:-$folder/vocab.txt}" \
  --do_lower_case="${DO_LOWER_CASE:-False}" \
  --gelu="${GELU:-erf}" \
  --output_dir="$OUTPUT_DIR" \
  "$@"
