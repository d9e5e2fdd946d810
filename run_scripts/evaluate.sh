#!/usr/bin/env bash
# Stage 4: evaluates the latest checkpoint of a run and writes eval_results.txt beside it.
#   INPUT_FILE=tfrecords/*.tfrecord OUTPUT_DIR=model BERT_CONFIG_FILE=biobert_v1.0/bert_config.json run_scripts/evaluate.sh
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

[[ -n "${INPUT_FILE:-}" ]] || fail "INPUT_FILE is not set; expected TFRecord files or globs" 2
[[ -n "${OUTPUT_DIR:-}" ]] || fail "OUTPUT_DIR is not set; expected the folder of a run" 2
[[ -n "${BERT_CONFIG_FILE:-}" ]] || fail "BERT_CONFIG_FILE is not set; expected a bert_config.json" 2

exec "$PYTHON" -m bert_clinical.run_pretraining \
  --bert_config_file="$BERT_CONFIG_FILE" \
  --input_file="$INPUT_FILE" \
  --output_dir="$OUTPUT_DIR" \
  --do_eval \
  --max_seq_length="${MAX_SEQ_LENGTH:-128}" \
  --max_predictions_per_seq="${MAX_PREDICTIONS_PER_SEQ:-20}" \
  --eval_batch_size="${EVAL_BATCH_SIZE:-8}" \
  --max_eval_steps="${MAX_EVAL_STEPS:-100}" \
  --gelu="${GELU:-erf}" \
  "$@"
