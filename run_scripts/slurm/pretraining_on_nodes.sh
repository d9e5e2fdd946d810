#!/usr/bin/env bash
#SBATCH --job-name=pretraining
#SBATCH --requeue --open-mode=append --signal=B:USR1@300
# Pretraining on several nodes as one, a task for each node, which takes all GPUs of its node that it is
# given. It saves and queues itself again as pretraining.sh does. A node that is lost ends the others.
#   NODES=4 GPUS=4 INPUT_FILE='/data/tfrecords/*.tfrecord' INIT_CHECKPOINT=biobert OUTPUT_DIR=/data/model \
#     run_scripts/slurm/pretraining_on_nodes.sh --train_batch_size=256
# Takes the variables of run_scripts/run_pretraining.sh, and its flags behind.
set -euo pipefail
NODES=${NODES:-2}
GPUS=${GPUS:-1}                      # of each node
CPUS=${CPUS:-8}                      # of each node
MEMORY=${MEMORY:-32G}                # of each node
TIME=${TIME:-24:00:00}
# shellcheck source=run_scripts/slurm/preamble.sh
source "${ROOT:-${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/../..}}/run_scripts/slurm/preamble.sh" "$@"

require_variable INPUT_FILE "TFRecord files or globs, comma-separated, or a folder of them, that all nodes reach"
require_variable INIT_CHECKPOINT "a BioBERT folder"
require_variable OUTPUT_DIR "a folder that all nodes reach"
gpus=()
((GPUS == 0)) || gpus=(--gpus-per-node="$GPUS")
submit --nodes="$NODES" --ntasks-per-node=1 "${gpus[@]}" --cpus-per-task="$CPUS" --mem="$MEMORY" --time="$TIME"

[[ ! -d $INPUT_FILE ]] || INPUT_FILE=$(examples_in "$INPUT_FILE") || exit
export INPUT_FILE
trap 'again_after_saved_stop $?' EXIT
# run_pretraining takes the workers from what srun tells each task.
run_stage srun --distribution=block --kill-on-bad-exit=1 --wait=30 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
  "$ROOT/run_scripts/run_pretraining.sh" "$@"
