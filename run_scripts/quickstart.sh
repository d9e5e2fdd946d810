#!/usr/bin/env bash
# The whole workflow on made-up notes with a small model, in a few minutes on a CPU:
# notes → text → vocabulary → masked examples → pretraining → evaluation → audit → transformers folder.
# Needs nothing but Python 3.11, 3.12 or 3.13 and a package index; it installs into .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=run_scripts/stages.sh
source run_scripts/stages.sh

OUTPUT_DIR=${OUTPUT_DIR:-quickstart_output}
NUM_NOTES=${NUM_NOTES:-400}
NUM_TRAIN_STEPS=${NUM_TRAIN_STEPS:-700}
MAX_SEQ_LENGTH=128
MAX_PREDICTIONS_PER_SEQ=20
# How often made-up secrets are planted, for the audit; each needs as many notes.
CANARY_REPETITIONS=4,64
((NUM_NOTES >= 120)) || CANARY_REPETITIONS=4

refuse() {
  printf 'quickstart.sh: error: OUTPUT_DIR: %s; choose a new folder\n' "$1" >&2
  exit 2
}

# It clears away what an earlier quickstart made, so it works only where no others' files can be:
# in a new or empty folder, or in one that it marked as its own.
MARKER="$OUTPUT_DIR/.made_by_quickstart"
case $OUTPUT_DIR in
-*) refuse "found $OUTPUT_DIR, which starts like an option" ;;
*[!A-Za-z0-9_./-]*) refuse "found a name with other characters than letters, digits and _ . / -" ;;
esac
[[ ! -L ${OUTPUT_DIR%/} ]] || refuse "$OUTPUT_DIR is a link"
[[ ! -e $OUTPUT_DIR || -d $OUTPUT_DIR ]] || refuse "$OUTPUT_DIR is no folder"
if [[ -d $OUTPUT_DIR && ! -f $MARKER && -n $(ls -A "$OUTPUT_DIR") ]]; then
  refuse "$OUTPUT_DIR holds files that no quickstart made"
fi

run_stage run_scripts/set_up.sh
PYTHON=.venv/bin/python

step() { printf '\n== %s\n' "$1"; }

mkdir -p "$OUTPUT_DIR"
touch "$MARKER"
rm -rf "$OUTPUT_DIR"/{text,tfrecords,model,audit,transformers,canaries.json}

step "1/8 Made-up notes in the columns of NOTEEVENTS"
run_stage "$PYTHON" -m data_prep.sample_notes --output_file="$OUTPUT_DIR/NOTEEVENTS.csv" \
  --num_notes="$NUM_NOTES" --random_seed=12345

step "2/8 Notes to text: sections by rules, one sentence a line; a tenth of the patients held out"
run_stage "$PYTHON" -m data_prep.format_notes --input_file="$OUTPUT_DIR/NOTEEVENTS.csv" \
  --output_dir="$OUTPUT_DIR/text" --sentence_splitter=rules --held_out_fraction=0.1 \
  --plant_canaries="$OUTPUT_DIR/canaries.json" --num_canaries=3 --repetitions="$CANARY_REPETITIONS" \
  --secrets=digits --patients_files

step "3/8 A vocabulary of its own (a run from BioBERT brings one)"
run_stage "$PYTHON" -m bert_clinical.create_vocab --input_file="$OUTPUT_DIR/text/discharge_summary.txt" \
  --output_file="$OUTPUT_DIR/vocab.txt" --vocab_size=2000 --do_lower_case=False

step "4/8 Masked examples for training and for the held-out patients"
for part in discharge_summary discharge_summary.held_out; do
  run_stage "$PYTHON" -m bert_clinical.create_pretraining_data --input_file="$OUTPUT_DIR/text/$part.txt" \
    --output_file="$OUTPUT_DIR/tfrecords/$part.tfrecord" --vocab_file="$OUTPUT_DIR/vocab.txt" \
    --do_lower_case=False --max_seq_length="$MAX_SEQ_LENGTH" \
    --max_predictions_per_seq="$MAX_PREDICTIONS_PER_SEQ" --dupe_factor=5
done

# Without dropout, so that a model this small learns something within minutes.
vocab_size=$(wc -l <"$OUTPUT_DIR/vocab.txt")
cat >"$OUTPUT_DIR/bert_config.json" <<JSON
{
  "attention_probs_dropout_prob": 0.0,
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.0,
  "hidden_size": 128,
  "initializer_range": 0.02,
  "intermediate_size": 512,
  "max_position_embeddings": $MAX_SEQ_LENGTH,
  "num_attention_heads": 2,
  "num_hidden_layers": 2,
  "type_vocab_size": 2,
  "vocab_size": $vocab_size
}
JSON

step "5/8 and 6/8 Pretraining, then evaluation on the held-out patients"
run_stage "$PYTHON" -m bert_clinical.run_pretraining --bert_config_file="$OUTPUT_DIR/bert_config.json" \
  --input_file="$OUTPUT_DIR/tfrecords/discharge_summary.tfrecord" \
  --eval_input_file="$OUTPUT_DIR/tfrecords/discharge_summary.held_out.tfrecord" \
  --output_dir="$OUTPUT_DIR/model" --do_train --do_eval \
  --max_seq_length="$MAX_SEQ_LENGTH" --max_predictions_per_seq="$MAX_PREDICTIONS_PER_SEQ" \
  --train_batch_size=32 --learning_rate=5e-4 --num_train_steps="$NUM_TRAIN_STEPS" \
  --num_warmup_steps=100 --save_checkpoints_steps=100 --eval_every=100 --eval_batch_size=32 --max_eval_steps=20

step "7/8 What the model has memorised of secrets that were planted in its text"
run_stage "$PYTHON" -m bert_clinical.audit_memorization --init_checkpoint="$OUTPUT_DIR/model" \
  --bert_config_file="$OUTPUT_DIR/bert_config.json" --vocab_file="$OUTPUT_DIR/vocab.txt" \
  --do_lower_case=False --canaries_file="$OUTPUT_DIR/canaries.json" --max_notes=20 \
  --member_file="$OUTPUT_DIR/text/discharge_summary.txt" \
  --non_member_file="$OUTPUT_DIR/text/discharge_summary.held_out.txt" --output_dir="$OUTPUT_DIR/audit"

step "8/8 The model for transformers"
run_stage "$PYTHON" -m bert_clinical.convert_to_transformers --init_checkpoint="$OUTPUT_DIR/model" \
  --bert_config_file="$OUTPUT_DIR/bert_config.json" --vocab_file="$OUTPUT_DIR/vocab.txt" \
  --do_lower_case=False --output_dir="$OUTPUT_DIR/transformers"

cat <<END

Done. What lies where:
  $OUTPUT_DIR/NOTEEVENTS.csv     the made-up notes
  $OUTPUT_DIR/text               pretraining text, manifest.json, data_report.html
  $OUTPUT_DIR/vocab.txt          the vocabulary
  $OUTPUT_DIR/tfrecords          masked examples and what they were made of
  $OUTPUT_DIR/model              checkpoints, eval_results.txt
  $OUTPUT_DIR/canaries.json      the secrets that were planted in the text
  $OUTPUT_DIR/audit              what the model has memorised of them: audit_report.html
  $OUTPUT_DIR/transformers       the model for transformers: AutoModel.from_pretrained("$OUTPUT_DIR/transformers")

Evaluation on the held-out patients:
$(sed 's/^/  /' "$OUTPUT_DIR/model/eval_results.txt")
END
