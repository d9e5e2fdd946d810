#!/usr/bin/env bash
# Gets BioBERT v1.0 (PubMed 200K + PMC 270K), 400 MB, into BIOBERT_DIR, and checks that it is whole.
#   BIOBERT_DIR=biobert_v1.0_pubmed_pmc run_scripts/download_biobert.sh
# BIOBERT_URL can name another release or a file that you have; BIOBERT_SHA256 is compared if set.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=run_scripts/downloads.sh
source "$ROOT/run_scripts/downloads.sh"

BIOBERT_DIR=${BIOBERT_DIR:-biobert_v1.0_pubmed_pmc}

# check_biobert FOLDER: every variable that its config announces, in its shape, with a vocabulary.
check_biobert() {
  attempt "$PYTHON" - "$1" <<'PYTHON'
import sys
from pathlib import Path

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.variables import bert_variable_shapes
from bert_clinical.weights.checkpoint import resolve_checkpoint
from bert_clinical.weights.matching import match_variables
from bert_clinical.wordpieces.vocabulary import read_vocabulary
from data_prep.common.errors import UserError

folder = Path(sys.argv[1])
try:
    config = BertConfig.from_json_file(folder / "bert_config.json")
    if not (folder / "vocab.txt").is_file():
        raise UserError(f"{folder}: holds no vocab.txt")
    read_vocabulary(folder / "vocab.txt", config.vocab_size)
    prefix = resolve_checkpoint(folder)
    match = match_variables(bert_variable_shapes(config), prefix)
except UserError as error:
    sys.exit(f"download_biobert.sh: error: {error}")
print(f"{Path(prefix).name}: {len(match.found)} variables, {config.vocab_size:,} WordPieces")
PYTHON
}

if [[ -e "$BIOBERT_DIR" ]]; then
  [[ -d "$BIOBERT_DIR" ]] || fail "$BIOBERT_DIR is a file; name another folder in BIOBERT_DIR"
  check_biobert "$BIOBERT_DIR" || exit 1
  echo "$BIOBERT_DIR is there already"
  exit 0
fi

mkdir -p "$(dirname "$BIOBERT_DIR")"
work=$(mktemp -d "$BIOBERT_DIR.partial.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "Getting $BIOBERT_URL"
download "$BIOBERT_URL" "$work/archive.tar.gz"
check_sha256 "$work/archive.tar.gz" "$BIOBERT_SHA256" BIOBERT_SHA256
mkdir "$work/unpacked"
attempt tar -xzf "$work/archive.tar.gz" -C "$work/unpacked" --no-same-owner --exclude='._*' 2>/dev/null ||
  fail "$BIOBERT_URL is no complete .tar.gz archive; get it again"
config=$(find "$work/unpacked" -name bert_config.json -print -quit)
[[ -n "$config" ]] || fail "the archive holds no bert_config.json; expected a BioBERT release"
folder=$(dirname "$config")
check_biobert "$folder" || exit 1
chmod -R u+rwX,go+rX "$folder"
mv "$folder" "$BIOBERT_DIR"
echo "BioBERT lies in $BIOBERT_DIR"
