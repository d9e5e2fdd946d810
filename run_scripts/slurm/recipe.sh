#!/usr/bin/env bash
# The whole recipe as a chain of jobs, each of which waits for those before it: notes → text →
# examples → pretraining → evaluation and transformers folder.
#   NOTES='/data/notes/*.csv.gz' BIOBERT_DIR=biobert OUTPUT_DIR=/data/clinical_bert run_scripts/slurm/recipe.sh
# Takes the variables of run_scripts/run_clinical_bert.sh but AUDIT, those of a second phase too; further
# flags go to run_pretraining. NODES=2 and more train on several nodes. What a stage needs stands in its own
# script; to change one, name the stage before it, such as PRETRAINING_TIME=48:00:00, which holds for both
# phases. Given again, the chain makes what is missing.
set -euo pipefail
NODES=${NODES:-1}
# shellcheck source=run_scripts/slurm/preamble.sh
source "$(dirname "${BASH_SOURCE[0]}")/preamble.sh" "$@"

require_variable NOTES "files or globs, comma-separated, that all nodes reach"
require_variable BIOBERT_DIR "a folder with BioBERT's checkpoint, bert_config.json and vocab.txt"
require_variable OUTPUT_DIR "a folder that all nodes reach"
[[ ${AUDIT:-0} == 0 ]] || fail "AUDIT is $AUDIT, but the chain plants and audits nothing; \
give run_scripts/run_clinical_bert.sh in a single job, or take the programs of docs/audit.md" 2
[[ -f $BIOBERT_DIR/vocab.txt ]] || fail "$BIOBERT_DIR/vocab.txt: no such file; expected an unpacked BioBERT release"
[[ -z "${SLURM_JOB_ID:-}" ]] || fail "it runs in a job; give it on a login node"
# shellcheck source=run_scripts/second_phase.sh
source "$ROOT/run_scripts/second_phase.sh"
((PHASE2_STEPS == 0)) || require_positions "$BIOBERT_DIR/bert_config.json" PHASE2_MAX_SEQ_LENGTH
# shellcheck disable=SC2153  # NOTES is not NODES
list=$(expand_files "$NOTES") || exit
inputs=()
while IFS= read -r file; do inputs+=("$OUTPUT_DIR/text/$(name_of "$file")"); done <<<"$list"
twice=$(printf '%s\n' "${inputs[@]}" | sort | uniq -d | head -n 1)
[[ -z "$twice" ]] || fail "two files of NOTES would both become $twice; rename one"

# queue STAGE SCRIPT VARIABLE=VALUE... [-- FLAG...]: hands a stage to SLURM; its number comes into job.
queue() {
  local stage=$1 script=$2 name said
  shift 2
  local variables=()
  while (($#)) && [[ $1 != -- ]]; do variables+=("$1") && shift; done
  shift || true
  for name in CPUS GPUS MEMORY TIME; do
    local own=${stage}_$name
    [[ -z "${!own:-}" ]] || variables+=("$name=${!own}")
  done
  said=$(env "${variables[@]}" "$ROOT/run_scripts/slurm/$script" "$@") || exit
  job=${said##* }
  echo "job $job: $script${DEPENDENCY:+, after $DEPENDENCY}"
}

export SECTION_RULES=${SECTION_RULES:-published}
queue TEXT format_notes.sh OUTPUT_DIR="$OUTPUT_DIR/text"
lengths=${MAX_SEQ_LENGTH:-128} predictions=${MAX_PREDICTIONS_PER_SEQ:-20} folders=$OUTPUT_DIR/tfrecords
if ((PHASE2_STEPS)); then
  lengths+=,$PHASE2_MAX_SEQ_LENGTH predictions+=,$PHASE2_MAX_PREDICTIONS_PER_SEQ
  folders+=,$OUTPUT_DIR/phase2/tfrecords
fi
# Task by task: a text's examples are made while others are still being written.
DEPENDENCY=aftercorr:$job queue EXAMPLES create_pretraining_data.sh NUM_TASKS="${#inputs[@]}" \
  INPUT_FILE="$(IFS=, && echo "${inputs[*]}")" VOCAB_FILE="$BIOBERT_DIR/vocab.txt" OUTPUT_DIR="$folders" \
  MAX_SEQ_LENGTH="$lengths" MAX_PREDICTIONS_PER_SEQ="$predictions"
training=pretraining.sh
((NODES == 1)) || training=pretraining_on_nodes.sh
DEPENDENCY=afterok:$job queue PRETRAINING "$training" INIT_CHECKPOINT="$BIOBERT_DIR" OUTPUT_DIR="$OUTPUT_DIR/model" \
  INPUT_FILE="$OUTPUT_DIR/tfrecords" -- "$@"
trained=$job
DEPENDENCY=afterok:$trained queue TRANSFORMERS transformers.sh MODEL_DIR="$OUTPUT_DIR/model" \
  BIOBERT_DIR="$BIOBERT_DIR" INPUT_FILE="$OUTPUT_DIR/tfrecords" OUTPUT_DIR="$OUTPUT_DIR/transformers"
if ((PHASE2_STEPS)); then
  sizes=(MAX_SEQ_LENGTH="$PHASE2_MAX_SEQ_LENGTH" MAX_PREDICTIONS_PER_SEQ="$PHASE2_MAX_PREDICTIONS_PER_SEQ")
  DEPENDENCY=afterok:$trained queue PRETRAINING "$training" INIT_CHECKPOINT="$OUTPUT_DIR/model" \
    BERT_CONFIG_FILE="$BIOBERT_DIR/bert_config.json" INPUT_FILE="$OUTPUT_DIR/phase2/tfrecords" \
    OUTPUT_DIR="$OUTPUT_DIR/phase2/model" "${sizes[@]}" TRAIN_BATCH_SIZE="$PHASE2_BATCH_SIZE" \
    LEARNING_RATE="$PHASE2_LEARNING_RATE" NUM_TRAIN_STEPS="$PHASE2_STEPS" \
    NUM_WARMUP_STEPS="$PHASE2_WARMUP_STEPS" -- "$@"
  DEPENDENCY=afterok:$job queue TRANSFORMERS transformers.sh MODEL_DIR="$OUTPUT_DIR/phase2/model" \
    BIOBERT_DIR="$BIOBERT_DIR" INPUT_FILE="$OUTPUT_DIR/phase2/tfrecords" "${sizes[@]}" \
    OUTPUT_DIR="$OUTPUT_DIR/phase2/transformers"
fi
