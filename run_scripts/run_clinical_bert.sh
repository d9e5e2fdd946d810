#!/usr/bin/env bash
# The published recipe: MIMIC-III notes and a BioBERT folder in, a transformers folder out.
#   NOTES=NOTEEVENTS.csv.gz BIOBERT_DIR=biobert_v1.0_pubmed_pmc OUTPUT_DIR=clinical_bert \
#     run_scripts/run_clinical_bert.sh
# Every stage can be killed and the same command given again; TERM, INT, HUP, USR1 and USR2 reach the
# stage that runs, and the script ends with its status. Further flags go to run_pretraining, for
# example --precision=mixed_bfloat16.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

require_variable NOTES "NOTEEVENTS.csv or .csv.gz"
require_variable BIOBERT_DIR "a folder with BioBERT's checkpoint, bert_config.json and vocab.txt"
require_variable OUTPUT_DIR "a folder for all that is made"

# Discharge summaries make Bio+Discharge Summary BERT; CATEGORY=all makes Bio+Clinical BERT.
CATEGORY=${CATEGORY:-Discharge summary}
# The published rules lose some text, as the README tells; SECTION_RULES=fixed loses none.
SECTION_RULES=${SECTION_RULES:-published}
SENTENCE_SPLITTER=${SENTENCE_SPLITTER:-spacy}
SPACY_MODEL=${SPACY_MODEL:-en_core_sci_md}
NUM_SHARDS=${NUM_SHARDS:-1}
NUM_WORKERS=${NUM_WORKERS:-$(nproc)}
# Share of the patients whose notes are kept for the evaluation; 0 evaluates on the training data, as
# the original did.
HELD_OUT_FRACTION=${HELD_OUT_FRACTION:-0}
# AUDIT=20 plants 20 made-up secrets for each count of CANARY_REPETITIONS in the text, and as many that
# are not planted, and audits the model: docs/audit.md. 0 plants nothing.
AUDIT=${AUDIT:-0}
CANARY_REPETITIONS=${CANARY_REPETITIONS:-1,4,16,64}

MAX_SEQ_LENGTH=${MAX_SEQ_LENGTH:-128}
MAX_PREDICTIONS_PER_SEQ=${MAX_PREDICTIONS_PER_SEQ:-20}
MASKED_LM_PROB=${MASKED_LM_PROB:-0.15}
DUPE_FACTOR=${DUPE_FACTOR:-5}
RANDOM_SEED=${RANDOM_SEED:-12345}

TRAIN_BATCH_SIZE=${TRAIN_BATCH_SIZE:-32}
LEARNING_RATE=${LEARNING_RATE:-5e-5}
NUM_TRAIN_STEPS=${NUM_TRAIN_STEPS:-150000}
NUM_WARMUP_STEPS=${NUM_WARMUP_STEPS:-10000}
SAVE_CHECKPOINTS_STEPS=${SAVE_CHECKPOINTS_STEPS:-1000}
MAX_EVAL_STEPS=${MAX_EVAL_STEPS:-100}
EVAL_BATCH_SIZE=${EVAL_BATCH_SIZE:-8}
# The form that BioBERT was trained with and that the published model is loaded under.
GELU=${GELU:-erf}

# A second phase on longer sequences, off by default: PHASE2_STEPS=10000 turns it on. Its variables and
# their defaults stand in second_phase.sh; what it makes comes into OUTPUT_DIR/phase2.
# shellcheck source=run_scripts/second_phase.sh
source "$ROOT/run_scripts/second_phase.sh"

config=$BIOBERT_DIR/bert_config.json
vocab=$BIOBERT_DIR/vocab.txt
for file in "$config" "$vocab"; do
  [[ -f "$file" ]] || fail "$file: no such file; expected BIOBERT_DIR to be an unpacked BioBERT release"
done
require_positions "$config" MAX_SEQ_LENGTH
((PHASE2_STEPS == 0)) || require_positions "$config" PHASE2_MAX_SEQ_LENGTH

[[ $AUDIT =~ ^[0-9]+$ ]] || fail "AUDIT is '$AUDIT'; expected how many canaries to plant, 0 for none" 2
planting=() stage=0 stages=4
if ((AUDIT)); then
  stages=5
  planting=(--plant_canaries="$OUTPUT_DIR/canaries.json" --num_canaries="$AUDIT"
    --repetitions="$CANARY_REPETITIONS" --random_seed="$RANDOM_SEED" --patients_files)
fi
lengths=$MAX_SEQ_LENGTH predictions=$MAX_PREDICTIONS_PER_SEQ folders=$OUTPUT_DIR/tfrecords
if ((PHASE2_STEPS)); then
  stages=$((2 * stages - 2))
  lengths+=,$PHASE2_MAX_SEQ_LENGTH predictions+=,$PHASE2_MAX_PREDICTIONS_PER_SEQ
  folders+=,$OUTPUT_DIR/phase2/tfrecords
fi

step() {
  stage=$((stage + 1))
  printf '\n== %s/%s %s\n' "$stage" "$stages" "$1"
}

# joined FILE...: the paths with commas between, as the programs take them.
joined() { local IFS=,; echo "$*"; }

# train_phase FOLDER LENGTH WHAT FLAG...: trains on FOLDER/tfrecords and evaluates, both into FOLDER/model,
# audits the model, and makes a folder for transformers.
train_phase() {
  local folder=$1 length=$2 what=$3 name text
  local train=() held_out=() compared=() train_texts=() held_out_texts=()
  for text in "${texts[@]}"; do
    name=$(basename "$text" .txt)
    case $name in
      *.held_out*) held_out+=("$folder/tfrecords/$name.tfrecord") held_out_texts+=("$text") ;;
      *) train+=("$folder/tfrecords/$name.tfrecord") train_texts+=("$text") ;;
    esac
  done
  ((${#train[@]})) || fail "all notes are held out; lower HELD_OUT_FRACTION"
  ((${#held_out[@]})) || held_out=("${train[@]}")

  step "$what, then evaluation"
  run_stage "$PYTHON" -m bert_clinical.run_pretraining --do_train --do_eval \
    --bert_config_file="$config" --output_dir="$folder/model" --max_seq_length="$length" \
    --input_file="$(joined "${train[@]}")" --eval_input_file="$(joined "${held_out[@]}")" \
    --save_checkpoints_steps="$SAVE_CHECKPOINTS_STEPS" \
    --eval_batch_size="$EVAL_BATCH_SIZE" --max_eval_steps="$MAX_EVAL_STEPS" --gelu="$GELU" "${@:4}"

  if ((AUDIT)); then
    if ((${#held_out_texts[@]})); then
      compared=(--member_file="$(joined "${train_texts[@]}")"
        --non_member_file="$(joined "${held_out_texts[@]}")")
    fi
    step "What the model has memorised"
    run_stage "$PYTHON" -m bert_clinical.audit_memorization --init_checkpoint="$folder/model" \
      --bert_config_file="$config" --vocab_file="$vocab" --do_lower_case=False --gelu="$GELU" \
      --reference_dir="$BIOBERT_DIR" --canaries_file="$OUTPUT_DIR/canaries.json" "${compared[@]}" \
      --max_seq_length="$length" --output_dir="$folder/audit"
  fi

  step "The model for transformers"
  run_stage "$PYTHON" -m bert_clinical.convert_to_transformers \
    --init_checkpoint="$folder/model" --bert_config_file="$config" --vocab_file="$vocab" \
    --do_lower_case=False --gelu="$GELU" --output_dir="$folder/transformers"
  made=$folder
}

step "Notes to text"
run_stage "$PYTHON" -m data_prep.format_notes \
  --input_file="$NOTES" --output_dir="$OUTPUT_DIR/text" --category="$CATEGORY" \
  --section_rules="$SECTION_RULES" --sentence_splitter="$SENTENCE_SPLITTER" \
  --spacy_model="$SPACY_MODEL" --num_shards="$NUM_SHARDS" --num_workers="$NUM_WORKERS" \
  --held_out_fraction="$HELD_OUT_FRACTION" "${planting[@]}"

step "Text to masked examples, each file on its own"
texts=()
for text in "$OUTPUT_DIR"/text/*.txt; do
  # A category or a shard can be empty, and has then no examples.
  [[ ! -s "$text" ]] || texts+=("$text")
done
((${#texts[@]})) || fail "$OUTPUT_DIR/text: all text is empty; expected notes of the category '$CATEGORY'"
run_stage "$PYTHON" -m bert_clinical.create_pretraining_data \
  --input_file="$(joined "${texts[@]}")" --output_dir="$folders" --vocab_file="$vocab" \
  --do_lower_case=False --max_seq_length="$lengths" \
  --max_predictions_per_seq="$predictions" --masked_lm_prob="$MASKED_LM_PROB" \
  --dupe_factor="$DUPE_FACTOR" --random_seed="$RANDOM_SEED" --num_workers="$NUM_WORKERS"

train_phase "$OUTPUT_DIR" "$MAX_SEQ_LENGTH" "Pretraining from BioBERT" --init_checkpoint="$BIOBERT_DIR" \
  --max_predictions_per_seq="$MAX_PREDICTIONS_PER_SEQ" --train_batch_size="$TRAIN_BATCH_SIZE" \
  --learning_rate="$LEARNING_RATE" --num_train_steps="$NUM_TRAIN_STEPS" \
  --num_warmup_steps="$NUM_WARMUP_STEPS" "$@"
if ((PHASE2_STEPS)); then
  train_phase "$OUTPUT_DIR/phase2" "$PHASE2_MAX_SEQ_LENGTH" "Second phase, at length $PHASE2_MAX_SEQ_LENGTH" \
    --init_checkpoint="$OUTPUT_DIR/model" --max_predictions_per_seq="$PHASE2_MAX_PREDICTIONS_PER_SEQ" \
    --train_batch_size="$PHASE2_BATCH_SIZE" --learning_rate="$PHASE2_LEARNING_RATE" \
    --num_train_steps="$PHASE2_STEPS" --num_warmup_steps="$PHASE2_WARMUP_STEPS" "$@"
fi

printf '\nDone: %s/transformers; evaluation in %s/model/eval_results.txt\n' "$made" "$made"
