#!/usr/bin/env bash
# Stage 3: pretrains on masked examples from a BioBERT checkpoint, by the published recipe. Run again
# after any interruption, it goes on from its last checkpoint.
#   INPUT_FILE=tfrecords/*.tfrecord INIT_CHECKPOINT=biobert_v1.0 OUTPUT_DIR=model run_scripts/run_pretraining.sh
# Further flags of run_pretraining go behind, for example --precision=mixed_bfloat16.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

[[ -n "${INPUT_FILE:-}" ]] || fail "INPUT_FILE is not set; expected TFRecord files or globs" 2
[[ -n "${INIT_CHECKPOINT:-}" ]] || fail "INIT_CHECKPOINT is not set; expected a BioBERT folder" 2
[[ -n "${OUTPUT_DIR:-}" ]] || fail "OUTPUT_DIR is not set; expected a folder for checkpoints" 2
if [[ -z "${BERT_CONFIG_FILE:-}" ]]; then
  folder=$INIT_CHECKPOINT
  [[ -d "$folder" ]] || folder=$(dirname "$folder")
  BERT_CONFIG_FILE=$folder/bert_config.json
fi

# BioBERT was trained with the erf form of GELU, and the published model is loaded under it.
exec "$PYTHON" -m bert_clinical.run_pretraining \
  --bert_config_file="$BERT_CONFIG_FILE" \
  --input_file="$INPUT_FILE" \
  --output_dir="$OUTPUT_DIR" \
  --init_checkpoint="$INIT_CHECKPOINT" \
  --do_train \
  --max_seq_length="${MAX_SEQ_LENGTH:-128}" \
  --max_predictions_per_seq="${MAX_PREDICTIONS_PER_SEQ:-20}" \
  --train_batch_size="${TRAIN_BATCH_SIZE:-32}" \
  --learning_rate="${LEARNING_RATE:-5e-5}" \
  --num_train_steps="${NUM_TRAIN_STEPS:-150000}" \
  --num_warmup_steps="${NUM_WARMUP_STEPS:-10000}" \
  --save_checkpoints_steps="${SAVE_CHECKPOINTS_STEPS:-1000}" \
  --gelu="${GELU:-erf}" \
  "$@"
