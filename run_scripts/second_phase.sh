#!/usr/bin/env bash
# Sourced by the recipes: a second phase of training, on longer sequences, which begins from the end of
# the first with fresh moments and a schedule of its own. The published recipe has none.
set -euo pipefail

# Updates of the second phase; 0 for no second phase.
PHASE2_STEPS=${PHASE2_STEPS:-0}
PHASE2_MAX_SEQ_LENGTH=${PHASE2_MAX_SEQ_LENGTH:-512}
PHASE2_MAX_PREDICTIONS_PER_SEQ=${PHASE2_MAX_PREDICTIONS_PER_SEQ:-77}
# A step at 512 takes more than four times the memory and the time of one at 128.
PHASE2_BATCH_SIZE=${PHASE2_BATCH_SIZE:-${TRAIN_BATCH_SIZE:-32}}
PHASE2_LEARNING_RATE=${PHASE2_LEARNING_RATE:-${LEARNING_RATE:-5e-5}}

[[ $PHASE2_STEPS =~ ^(0|[1-9][0-9]{0,11})$ ]] ||
  fail "PHASE2_STEPS is '$PHASE2_STEPS'; expected how many updates the second phase has, 0 for none" 2
PHASE2_WARMUP_STEPS=${PHASE2_WARMUP_STEPS:-$((PHASE2_STEPS / 10))}

# require_positions CONFIG VARIABLE...: ends the script where a variable asks for longer sequences than
# a model has positions for, before the days that lie between here and its training.
require_positions() {
  local config=$1 positions variable
  shift
  [[ -f "$config" ]] || fail "$config: no such file; expected an unpacked BioBERT release"
  positions=$(grep -Eo '"max_position_embeddings"[[:space:]]*:[[:space:]]*[0-9]+' "$config" | grep -Eo '[0-9]+$') ||
    positions=512
  for variable in "$@"; do
    [[ ${!variable} =~ ^[1-9][0-9]{0,11}$ ]] ||
      fail "$variable is '${!variable}'; expected how many WordPieces a sequence has" 2
    ((${!variable} <= positions)) ||
      fail "$variable is ${!variable}, but the model of $config takes $positions positions at most; lower it"
  done
}
