#!/usr/bin/env bash
# Stage 2: makes masked examples of text by the published recipe, every file a shard of its own. Run
# again after any interruption, it makes only what is missing.
#   INPUT_FILE='text/*.txt' VOCAB_FILE=biobert_v1.0/vocab.txt OUTPUT_DIR=tfrecords run_scripts/create_pretraining_data.sh
# Two lengths in one pass: MAX_SEQ_LENGTH=128,512 MAX_PREDICTIONS_PER_SEQ=20,77 OUTPUT_DIR=short,long.
# Further flags of create_pretraining_data go behind, for example --do_whole_word_mask.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

require_variable INPUT_FILE "text files or globs, comma-separated"
require_variable VOCAB_FILE "the vocabulary of the model to be pretrained"
require_variable OUTPUT_DIR "a folder for the TFRecords"

# The released scripts write 22 predictions and read 20, which fails; the recipe has 20.
exec "$PYTHON" -m bert_clinical.create_pretraining_data \
  --input_file="$INPUT_FILE" \
  --output_dir="$OUTPUT_DIR" \
  --vocab_file="$VOCAB_FILE" \
  --do_lower_case="${DO_LOWER_CASE:-False}" \
  --max_seq_length="${MAX_SEQ_LENGTH:-128}" \
  --max_predictions_per_seq="${MAX_PREDICTIONS_PER_SEQ:-20}" \
  --masked_lm_prob="${MASKED_LM_PROB:-0.15}" \
  --short_seq_prob="${SHORT_SEQ_PROB:-0.1}" \
  --dupe_factor="${DUPE_FACTOR:-5}" \
  --random_seed="${RANDOM_SEED:-12345}" \
  --num_workers="${NUM_WORKERS:-$(nproc)}" \
  "$@"
