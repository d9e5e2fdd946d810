#!/usr/bin/env bash
# Sourced by the scripts of this folder: how they run what takes its time. A signal to a script reaches
# the program that runs, and the script ends with the program's status.
set -euo pipefail

# fail MESSAGE [STATUS]: one line on standard error, then the end.
fail() {
  echo "$(basename "$0"): error: $1" >&2
  exit "${2:-1}"
}

# attempt COMMAND...: runs a command, hands it the signals that reach this script, waits for it, and
# returns its status. After a signal it ends the script with that status, or with 128 + the signal's
# number where the command had just ended well.
attempt() {
  local child="" early="" told="" again=1 signal code status=0
  for signal in TERM INT HUP USR1 USR2; do
    # shellcheck disable=SC2064  # the name of now
    trap "hand_on $signal" "$signal"
  done
  # Job control, or Bash would have the command ignore SIGINT and take its input away.
  set -m
  "$@" &
  child=$!
  set +m
  [[ -z "$early" ]] || kill -s "$early" "$child" 2>/dev/null || true
  # A signal ends the wait, not the command; 127 says that its status has been told already.
  while ((again)); do
    again=0 code=0
    wait "$child" || code=$?
    ((code == 127)) || status=$code
  done
  trap - TERM INT HUP USR1 USR2
  if [[ -n "$told" ]]; then
    ((status)) || status=$((128 + $(kill -l "$told")))
    exit "$status"
  fi
  return "$status"
}

# hand_on SIGNAL: gives the command of `attempt` a signal, or keeps it until there is a command.
hand_on() {
  again=1 told=$1
  if [[ -n "$child" ]]; then
    kill -s "$1" "$child" 2>/dev/null || true
  else
    early=$1
  fi
}

# run_stage COMMAND...: likewise, and ends the script with the status unless that is 0.
run_stage() {
  attempt "$@" || exit "$?"
}
