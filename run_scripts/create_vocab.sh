#!/usr/bin/env bash
# Learns a vocabulary from text, for a model trained from scratch. A BioBERT run brings its own.
#   INPUT_FILE='text/*.txt' OUTPUT_FILE=vocab.txt run_scripts/create_vocab.sh
# Further flags of create_vocab go behind, for example --min_frequency=5.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

require_variable INPUT_FILE "text files or globs, comma-separated"
require_variable OUTPUT_FILE "the vocabulary to be written"

exec "$PYTHON" -m bert_clinical.create_vocab \
  --input_file="$INPUT_FILE" \
  --output_file="$OUTPUT_FILE" \
  --vocab_size="${VOCAB_SIZE:-28996}" \
  --do_lower_case="${DO_LOWER_CASE:-False}" \
  "$@"
