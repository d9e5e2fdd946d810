#!/usr/bin/env bash
# Sourced by run_classifier.sh and run_ner.sh: the paper's grid of hyperparameters, and its optimizer
# (--noadam_bias_correction; a --adam_bias_correction after it brings back the programs' default).
set -euo pipefail

# run_grid PROGRAM METRIC [FLAG...]: one run for each point of the grid and each seed in RANDOM_SEED,
# each in a folder of its own under OUTPUT_DIR, then a table of METRIC there and in results.csv, with
# mean and deviation over the seeds. Points that are complete are not run again, so that the same
# command goes on after an interruption.
run_grid() {
  local program=$1 metric=$2
  shift 2
  require_variable DATA_DIR "the folder of the task's data"
  require_variable OUTPUT_DIR "a folder for the runs"
  local model=()
  if [[ -n "${TRANSFORMERS_DIR:-}" ]]; then
    model=(--transformers_dir="$TRANSFORMERS_DIR")
  else
    require_variable INIT_CHECKPOINT "a checkpoint or its folder, or TRANSFORMERS_DIR"
    local folder=$INIT_CHECKPOINT
    [[ -d "$folder" ]] || folder=$(dirname "$folder")
    model=(
      --init_checkpoint="$INIT_CHECKPOINT"
      --bert_config_file="${BERT_CONFIG_FILE:-$folder/bert_config.json}"
      --vocab_file="${VOCAB_FILE:-$folder/vocab.txt}"
      --do_lower_case="${DO_LOWER_CASE:-False}"
    )
    [[ -z "${GELU:-}" ]] || model+=(--gelu="$GELU")
  fi
  local epochs rate batch seed run seed_flag
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
          if [[ -e "$run/eval_results.json" ]]; then
            echo "$run is complete."
            continue
          fi
          echo "== $run"
          run_stage "$PYTHON" -m "bert_clinical.$program" "${model[@]}" \
            --task_name="$TASK_NAME" \
            --data_dir="$DATA_DIR" \
            --output_dir="$run" \
            --do_train --do_eval --do_predict \
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
