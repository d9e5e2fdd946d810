#!/usr/bin/env bash
# Sourced by the scripts that fine-tune: which model a run begins with, a run that is not made twice,
# and the paper's grid of hyperparameters.
set -euo pipefail

# name_model PREFIX: sets the array `model` to the flags of the model that the variables
# PREFIX + TRANSFORMERS_DIR, or PREFIX + INIT_CHECKPOINT, BERT_CONFIG_FILE, VOCAB_FILE, DO_LOWER_CASE
# and GELU, name.
name_model() {
  local transformers_dir=$1TRANSFORMERS_DIR checkpoint=$1INIT_CHECKPOINT config=$1BERT_CONFIG_FILE
  local vocab=$1VOCAB_FILE lower_case=$1DO_LOWER_CASE gelu=$1GELU folder
  if [[ -n "${!transformers_dir:-}" ]]; then
    model=(--transformers_dir="${!transformers_dir}")
    return
  fi
  require_variable "$checkpoint" "a checkpoint or its folder, or $transformers_dir"
  folder=${!checkpoint}
  [[ -d "$folder" ]] || folder=$(dirname "$folder")
  model=(
    --init_checkpoint="${!checkpoint}"
    --bert_config_file="${!config:-$folder/bert_config.json}"
    --vocab_file="${!vocab:-$folder/vocab.txt}"
    --do_lower_case="${!lower_case:-False}"
  )
  [[ -z "${!gelu:-}" ]] || model+=(--gelu="${!gelu}")
}

# fine_tune PROGRAM FOLDER FLAG...: one run in a folder of its own, from `model`, unless it is
# complete, so that the same command goes on after an interruption; a folder that holds a run with
# another model, other data or settings is refused.
fine_tune() {
  local program=$1 run=$2
  shift 2
  echo "== $run"
  run_stage "$PYTHON" -m "bert_clinical.$program" "${model[@]}" --output_dir="$run" \
    --do_train --do_eval --do_predict --keep_finished "$@"
}

# run_grid PROGRAM METRIC [FLAG...]: one run for each point of the grid and each seed in RANDOM_SEED,
# each in a folder of its own under OUTPUT_DIR, then a table of METRIC there and in results.csv, with
# mean and deviation over the seeds. The optimizer is the paper's (--noadam_bias_correction; a
# --adam_bias_correction after it brings back the programs' default).
run_grid() {
  local program=$1 metric=$2
  shift 2
  require_variable DATA_DIR "the folder of the task's data"
  require_variable OUTPUT_DIR "a folder for the runs"
  local model epochs rate batch seed run seed_flag
  name_model ""
  for epochs in ${NUM_TRAIN_EPOCHS:-2 3 4 5}; do
    for rate in ${LEARNING_RATE:-2e-5 3e-5 5e-5}; do
      for batch in ${TRAIN_BATCH_SIZE:-16 32}; do
        for seed in ${RANDOM_SEED:-default}; do
          run=$OUTPUT_DIR/epochs_$epochs-rate_$rate-batch_$batch
          seed_flag=()
          if [[ "$seed" != default ]]; then
            run+=-seed_$seed
            seed_flag=(--random_seed="$seed")
          fi
          fine_tune "$program" "$run" \
            --task_name="$TASK_NAME" \
            --data_dir="$DATA_DIR" \
            --max_seq_length="${MAX_SEQ_LENGTH:-150}" \
            --num_train_epochs="$epochs" \
            --learning_rate="$rate" \
            --train_batch_size="$batch" \
            --noadam_bias_correction \
            "${seed_flag[@]}" \
            "$@"
        done
      done
    done
  done
  run_stage "$PYTHON" -m bert_clinical.compare_runs --runs_dir="$OUTPUT_DIR" --metric="$metric" \
    --output_file="$OUTPUT_DIR/results.csv"
}
