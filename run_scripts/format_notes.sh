#!/usr/bin/env bash
# Stage 1: notes to pretraining text. Give paths and choices as environment variables, for example
#   NOTES=/data/mimic/NOTEEVENTS.csv.gz OUTPUT_DIR=/data/text run_scripts/format_notes.sh
# Further flags of data_prep.format_notes can follow as arguments. Run again after an interruption
# with the same settings, it goes on from where it was.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

NOTES=${NOTES:-}                                       # files or globs, comma-separated
INPUT_SQL=${INPUT_SQL:-}                               # in place of NOTES: an SQLAlchemy URL
SQL_TABLE=${SQL_TABLE:-mimiciii.noteevents}            # its table
OUTPUT_DIR=${OUTPUT_DIR:-pretraining_text}
CATEGORY=${CATEGORY:-Discharge summary}                # comma-separated, or all
SECTION_RULES=${SECTION_RULES:-fixed}                  # published rebuilds the published corpus, faults included
SENTENCE_SPLITTER=${SENTENCE_SPLITTER:-spacy}          # the paper's way; rules needs no model
SPACY_MODEL=${SPACY_MODEL:-en_core_sci_md}
HELD_OUT_FRACTION=${HELD_OUT_FRACTION:-0}              # the paper held nobody out
DEDUPLICATE=${DEDUPLICATE:-none}                       # none, exact or near
NUM_SHARDS=${NUM_SHARDS:-1}
NUM_WORKERS=${NUM_WORKERS:-$(nproc)}

if [[ -n "$NOTES" ]]; then
  source_flags=(--input_file="$NOTES")
elif [[ -n "$INPUT_SQL" ]]; then
  source_flags=(--input_sql="$INPUT_SQL" --sql_table="$SQL_TABLE")
else
  fail "give the notes in NOTES (files) or INPUT_SQL (a database)" 2
fi

exec "$PYTHON" -m data_prep.format_notes "${source_flags[@]}" \
  --output_dir="$OUTPUT_DIR" --category="$CATEGORY" \
  --section_rules="$SECTION_RULES" --sentence_splitter="$SENTENCE_SPLITTER" \
  --spacy_model="$SPACY_MODEL" --held_out_fraction="$HELD_OUT_FRACTION" \
  --deduplicate="$DEDUPLICATE" --num_shards="$NUM_SHARDS" --num_workers="$NUM_WORKERS" "$@"
