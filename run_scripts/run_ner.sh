#!/usr/bin/env bash
# Fine-tunes on an i2b2 task over the paper's grid: 2 to 5 epochs, learning rates 2e-5, 3e-5 and
# 5e-5, batches of 16 and 32, 150 WordPieces. Each variable can name one value or several,
# and so can RANDOM_SEED: the table then has mean and deviation over the seeds.
#   TRANSFORMERS_DIR=transformers DATA_DIR=i2b2_2010 OUTPUT_DIR=i2b2_runs run_scripts/run_ner.sh
# As in the paper, Adam's moments are not corrected; --adam_bias_correction behind does better in
# short runs. A run that was interrupted goes on where it stopped.
# A checkpoint in place of TRANSFORMERS_DIR: INIT_CHECKPOINT=biobert_v1.0 GELU=erf.
# Further flags of run_ner go behind, for example --word_labels=published.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=run_scripts/fine_tuning_grid.sh
source "$ROOT/run_scripts/fine_tuning_grid.sh"

TASK_NAME=${TASK_NAME:-conll}
run_grid run_ner f "$@"
