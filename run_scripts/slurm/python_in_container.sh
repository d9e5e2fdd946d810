#!/usr/bin/env bash
# Stands in for Python where a job has a CONTAINER.
set -euo pipefail
# shellcheck disable=SC2086  # several options in a string
exec apptainer exec $CONTAINER_OPTIONS "$CONTAINER" python "$@"
