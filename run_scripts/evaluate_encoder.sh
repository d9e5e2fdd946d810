#!/usr/bin/env bash
# Fine-tunes a model, and the one that its pretraining started from, to find entities in public texts,
# over several seeds; results.md and results.csv show both beside each other, mean and deviation.
#   TRANSFORMERS_DIR=clinical_bert/transformers START_INIT_CHECKPOINT=biobert_v1.0 START_GELU=erf \
#     DATA_DIR=public_tasks OUTPUT_DIR=evaluation run_scripts/evaluate_encoder.sh
# DATA_DIR holds a folder for each task; docs/evaluation.md says where public ones are. Each model is
# a transformers folder, TRANSFORMERS_DIR and START_TRANSFORMERS_DIR, or a checkpoint, INIT_CHECKPOINT
# with BERT_CONFIG_FILE, VOCAB_FILE, DO_LOWER_CASE and GELU, START_INIT_CHECKPOINT with
# START_BERT_CONFIG_FILE, START_VOCAB_FILE, START_DO_LOWER_CASE and START_GELU.
# An evaluation that was interrupted goes on where it stopped. Further flags of run_ner go behind.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=run_scripts/fine_tuning_grid.sh
source "$ROOT/run_scripts/fine_tuning_grid.sh"

require_variable DATA_DIR "a folder with a folder for each task"
require_variable OUTPUT_DIR "a folder for the runs and the table"
epochs=${NUM_TRAIN_EPOCHS:-4}
rate=${LEARNING_RATE:-5e-5}
batch=${TRAIN_BATCH_SIZE:-32}

name_model ""
of_model=("${model[@]}")
name_model START_
of_start=("${model[@]}")

tasks=()
for task in "$DATA_DIR"/*/; do
  [[ ! -d "$task" || "$task" -ef "$OUTPUT_DIR" ]] || tasks+=("$(basename -- "$task")")
done
((${#tasks[@]})) || fail "$DATA_DIR holds no folder; expected one for each task"

# Every task with the first seed, then with the next: a fault in the last one shows early.
for seed in ${RANDOM_SEED:-1 2 3}; do
  for task in "${tasks[@]}"; do
    for encoder in model start; do
      model=("${of_model[@]}")
      [[ $encoder == model ]] || model=("${of_start[@]}")
      fine_tune run_ner "$OUTPUT_DIR/$task/$encoder/epochs_$epochs-rate_$rate-batch_$batch-seed_$seed" \
        --task_name=conll \
        --data_dir="$DATA_DIR/$task" \
        --max_seq_length="${MAX_SEQ_LENGTH:-128}" \
        --num_train_epochs="$epochs" \
        --learning_rate="$rate" \
        --train_batch_size="$batch" \
        --random_seed="$seed" \
        "$@"
    done
  done
done
run_stage "$PYTHON" -m bert_clinical.compare_runs --runs_dir="$OUTPUT_DIR" --metric=f --by_task \
  --output_file="$OUTPUT_DIR/results.csv" --markdown_file="$OUTPUT_DIR/results.md"
