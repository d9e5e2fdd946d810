#!/usr/bin/env bash
# Sourced by the scripts of this folder: your site, and what all jobs do. Each of them, called on a
# login node, hands itself to SLURM; the variables that you set go with it. Further options for sbatch,
# such as --qos=night, stand in SBATCH_OPTIONS.
set -euo pipefail

PARTITION=${PARTITION:-}             # empty: the site's own default
ACCOUNT=${ACCOUNT:-}
MODULES=${MODULES:-}                 # to load, such as "python/3.12 cuda/12.5"
CONTAINER=${CONTAINER:-}             # an image by apptainer.def; empty: the .venv of this checkout
CONTAINER_OPTIONS=${CONTAINER_OPTIONS:---nv}  # such as "--nv --bind /scratch"
LOGS=${LOGS:-slurm_logs}             # a folder for what the jobs say
SBATCH_OPTIONS=${SBATCH_OPTIONS:-}

# shellcheck source=run_scripts/environment.sh
source "$ROOT/run_scripts/environment.sh"

# submit OPTION...: hands the script to SLURM, with its arguments, and ends; in a job it does nothing.
submit() {
  [[ -z "${SLURM_JOB_ID:-}" ]] || return 0
  mkdir -p "$LOGS"
  local options=(--output="$LOGS/%x-%j.out" --export=ALL)
  [[ -z "$PARTITION" ]] || options+=(--partition="$PARTITION")
  [[ -z "$ACCOUNT" ]] || options+=(--account="$ACCOUNT")
  [[ -z "${DEPENDENCY:-}" ]] || options+=(--dependency="$DEPENDENCY" --kill-on-invalid-dep=yes)
  # shellcheck disable=SC2206  # several in a string
  options+=($SBATCH_OPTIONS)
  export ROOT
  # What a job chooses by itself is not this machine's to choose.
  unset PYTHON DEPENDENCY
  # shellcheck disable=SC2154  # by preamble.sh
  exec sbatch "${options[@]}" "$@" "$ROOT/run_scripts/slurm/$(basename "$0")" "${arguments[@]}"
}

# input_of_task: the file of NOTES or INPUT_FILE that is this array task's, by number.
input_of_task() {
  local files=()
  mapfile -t files < <(expand_files "$1")
  local number=${SLURM_ARRAY_TASK_ID:-0}
  ((number < ${#files[@]})) || fail "the array's task $number has no file among ${#files[@]}: $1"
  echo "${files[number]}"
}

# expand_files PATTERNS: the files of comma-separated paths and globs, sorted, each on a line.
expand_files() {
  local pattern file found=()
  local IFS=,
  for pattern in $1; do
    found=()
    while IFS= read -r file; do found+=("$file"); done < <(compgen -G "$pattern" | LC_ALL=C sort)
    ((${#found[@]})) || fail "no file matches $pattern; check the path"
    printf '%s\n' "${found[@]}"
  done
}

# examples_in FOLDER [held_out]: its TFRecord files, and those of its folders, with commas between:
# those to train on, or those of patients who are held out.
examples_in() {
  local found select=(-v)
  [[ "${2:-}" != held_out ]] || select=()
  if ! found=$(find "$1" -name '*.tfrecord' -size +0 | LC_ALL=C sort | grep "${select[@]}" -e '\.held_out[^/]*$'); then
    [[ "${2:-}" == held_out ]] || fail "$1: found no examples to train on"
    return 1
  fi
  paste -sd, <<<"$found"
}

# name_of FILE: its name without folder and ending.
name_of() {
  local name
  name=$(basename "$1" .gz)
  echo "${name%.*}"
}

# again_after_saved_stop STATUS: queues the job again if its training was stopped by a signal, saved,
# and nobody has cancelled the job. Called at the end of a job.
again_after_saved_stop() {
  case $1 in 129 | 130 | 138 | 140 | 143) ;; *) return 0 ;; esac
  local state
  state=$(squeue --noheader --format=%T --jobs="$SLURM_JOB_ID") || state=unknown
  if [[ $state != RUNNING ]]; then
    echo "Stopped with status $1, saved; the job is $state and is not queued again."
    return 0
  fi
  echo "Stopped with status $1, saved; job $SLURM_JOB_ID is queued again (restart $((${SLURM_RESTART_COUNT:-0} + 1)))."
  scontrol requeue "$SLURM_JOB_ID"
}

if [[ -n "${SLURM_JOB_ID:-}" ]]; then
  for module in $MODULES; do module load "$module"; done
  [[ -z "$CONTAINER" ]] || export PYTHON=$ROOT/run_scripts/slurm/python_in_container.sh
  export CONTAINER CONTAINER_OPTIONS
  export NUM_WORKERS=${NUM_WORKERS:-${SLURM_CPUS_PER_TASK:-1}}
fi
