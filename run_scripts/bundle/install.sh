#!/usr/bin/env bash
# Installs the project from this folder on a machine without a network: compares every file with its
# SHA-256, makes .venv, installs by hashes, checks the models, and runs the quickstart.
#   ./install.sh
# INSTALL_DIR names another place than bert-clinical in this folder, for one that cannot be written.
# PYTHON_FOR_VENV names a Python. After an interruption, the same command goes on.
set -euo pipefail
INSTALL_DIR=$(realpath -m "${INSTALL_DIR:-$(dirname "${BASH_SOURCE[0]}")/bert-clinical}")
cd "$(dirname "${BASH_SOURCE[0]}")"
BUNDLE_DIR=$PWD
for file in stages.sh bundle.env SHA256SUMS; do
  [[ -f $file ]] || { echo "install.sh: error: $BUNDLE_DIR holds no $file; copy the bundle again" >&2 && exit 1; }
done
# shellcheck source=run_scripts/stages.sh
source "$BUNDLE_DIR/stages.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "Comparing $(wc -l <SHA256SUMS) files with their SHA-256"
attempt sha256sum --check --strict --quiet SHA256SUMS >"$work/differ" 2>/dev/null ||
  fail "$(wc -l <"$work/differ") file(s) are not what SHA256SUMS vouches for, first $(head -n 1 "$work/differ"); copy the bundle again"
find . \( -path ./bert-clinical -o -path ./.venv -o -path ./SHA256SUMS \) -prune -o -type f -print | LC_ALL=C sort >"$work/found"
sed 's/^[0-9a-f]*  //' SHA256SUMS | LC_ALL=C sort >"$work/listed"
stranger=$(LC_ALL=C comm -23 "$work/found" "$work/listed" | head -n 1)
[[ -z "$stranger" ]] || fail "found $stranger, which is not in SHA256SUMS; copy the bundle again"

# shellcheck source=/dev/null
source "$BUNDLE_DIR/bundle.env"

# is_expected PYTHON: it is the one that the wheels are for, with a C library as new as they need.
is_expected() {
  "$1" -c '
import platform, sys
glibc = [int(part) for part in platform.libc_ver()[1].split(".")[:2]]
version, machine, minor = sys.argv[1:]
found = "%d.%d" % sys.version_info[:2], platform.machine()
sys.exit(found != (version, machine) or glibc < [2, int(minor)])
' "$PYTHON_VERSION" "$MACHINE" "$GLIBC_MINOR" 2>/dev/null
}

python=""
for candidate in ${PYTHON_FOR_VENV:-"python$PYTHON_VERSION" python3}; do
  ! is_expected "$candidate" || { python=$candidate && break; }
done
[[ -n "$python" ]] || fail "found no Python $PYTHON_VERSION on $MACHINE with glibc 2.$GLIBC_MINOR or newer (tried ${PYTHON_FOR_VENV:-python$PYTHON_VERSION, python3}); name it in PYTHON_FOR_VENV, or make the bundle with other --python-version and --platform"
export PYTHON_FOR_VENV=$python BUNDLE_DIR PIP_NO_INDEX=1 PIP_FIND_LINKS=file://${BUNDLE_DIR// /%20}/wheels PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHON

mkdir -p "$INSTALL_DIR"
attempt tar -xzf bert-clinical.tar.gz -C "$INSTALL_DIR" --strip-components=1 --no-same-owner ||
  fail "the project could not be unpacked into $INSTALL_DIR; tar's message stands above"
cd "$INSTALL_DIR"
# shellcheck disable=SC2086  # one extra a word
run_stage run_scripts/set_up.sh $EXTRAS
[[ $INSTALL_DIR != "$BUNDLE_DIR/bert-clinical" ]] || ln -sfn bert-clinical/.venv "$BUNDLE_DIR/.venv"

sum_of() { sed -n "s,^\([0-9a-f]*\)  \./$1\$,\1,p" "$BUNDLE_DIR/SHA256SUMS"; }
if [[ -n "$SCISPACY_MODEL" ]] && ! .venv/bin/python -c 'import en_core_sci_md' 2>/dev/null; then
  SCISPACY_MODEL_URL=$BUNDLE_DIR/models/$SCISPACY_MODEL \
    SCISPACY_MODEL_SHA256=$(sum_of "models/$SCISPACY_MODEL") run_stage run_scripts/install_scispacy_model.sh
fi
if [[ -f $BUNDLE_DIR/models/biobert.tar.gz ]]; then
  BIOBERT_URL=$BUNDLE_DIR/models/biobert.tar.gz BIOBERT_SHA256=$(sum_of models/biobert.tar.gz) \
    BIOBERT_DIR=$INSTALL_DIR/biobert_v1.0_pubmed_pmc run_stage run_scripts/download_biobert.sh
fi
run_stage run_scripts/quickstart.sh
printf '\nInstalled in %s.\n' "$INSTALL_DIR"
