#!/usr/bin/env bash
# Sourced by the scripts that fetch models: what they fetch, and how.
set -euo pipefail

# Neither of their makers publishes a SHA-256 of these; if you know one, set it, and it is compared.
BIOBERT_URL=${BIOBERT_URL:-https://github.com/naver/biobert-pretrained/releases/download/v1.0-pubmed-pmc/biobert_v1.0_pubmed_pmc.tar.gz}
BIOBERT_SHA256=${BIOBERT_SHA256:-}
SCISPACY_MODEL_URL=${SCISPACY_MODEL_URL:-https://s3-us-west-2.amazonaws.com/ai2-s2-scispacy/releases/v0.5.4/en_core_sci_md-0.5.4.tar.gz}
SCISPACY_MODEL_SHA256=${SCISPACY_MODEL_SHA256:-}

# download URL FILE: gets a URL (or copies a local path) to a file.
download() {
  if [[ "$1" != *://* ]]; then
    [[ -f "$1" ]] || fail "$1: no such file; expected a URL or a local file"
    cp "$1" "$2"
    return
  fi
  attempt "$PYTHON" - "$1" "$2" <<'PYTHON' || fail "$1 could not be downloaded; check the network, or get the file elsewhere and name it in place of the URL"
import shutil, sys, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=60) as source, open(sys.argv[2], "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        expected = source.headers.get("Content-Length")
        if expected and target.tell() != int(expected):
            sys.exit(1)
except (OSError, ValueError):
    sys.exit(1)
PYTHON
}

# check_sha256 FILE EXPECTED VARIABLE: compares where a value is expected, else says what was found.
check_sha256() {
  local found
  found=$(sha256sum "$1" | cut -d' ' -f1)
  if [[ -z "$2" ]]; then
    echo "SHA-256 $found (not compared, as none is published: set $3 to hold later downloads to it)"
  elif [[ "$found" != "$2" ]]; then
    fail "found SHA-256 $found, expected $2 ($3); the download is damaged or not the file you know"
  else
    echo "SHA-256 as expected"
  fi
}
