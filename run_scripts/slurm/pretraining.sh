#!/usr/bin/env bash
#SBATCH --job-name=pretraining
#SBATCH --nodes=1 --ntasks=1
#SBATCH --requeue --open-mode=append --signal=B:USR1@300
# Pretraining on one node. Five minutes before its time is over, or when it is preempted, the job
# finishes its step, saves, and queues itself again, until the last step is made.
#   INPUT_FILE='/data/tfrecords/*.tfrecord' INIT_CHECKPOINT=biobert OUTPUT_DIR=/data/model \
#     run_scripts/slurm/pretraining.sh
# Takes the variables of run_scripts/run_pretraining.sh, and its flags behind, for example
# --precision=mixed_bfloat16.
set -euo pipefail
GPUS=${GPUS:-1}
CPUS=${CPUS:-8}
MEMORY=${MEMORY:-32G}
TIME=${TIME:-24:00:00}
# shellcheck source=run_scripts/slurm/preamble.sh
source "${ROOT:-${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/../..}}/run_scripts/slurm/preamble.sh" "$@"

require_variable INPUT_FILE "TFRecord files or globs, comma-separated, or a folder of them, that the node reaches"
require_variable INIT_CHECKPOINT "a BioBERT folder"
require_variable OUTPUT_DIR "a folder that the node reaches"
gpus=()
((GPUS == 0)) || gpus=(--gpus-per-node="$GPUS")
submit "${gpus[@]}" --cpus-per-task="$CPUS" --mem="$MEMORY" --time="$TIME"

[[ ! -d $INPUT_FILE ]] || INPUT_FILE=$(examples_in "$INPUT_FILE") || exit
export INPUT_FILE
trap 'again_after_saved_stop $?' EXIT
run_stage "$ROOT/run_scripts/run_pretraining.sh" "$@"
