#!/usr/bin/env bash
# Gathers in one folder all that an installation on a machine without a network needs: the project,
# the wheels of requirements.lock, pip, BioBERT, the SciSpacy model, their SHA-256, install.sh.
#   BUNDLE_DIR=bert_clinical_bundle run_scripts/make_offline_bundle.sh --python-version=3.12 --extras=sql
# Options, for the machine without a network:
#   --python-version=3.N    3.11, 3.12 or 3.13; this machine's unless given
#   --platform=PLATFORM     manylinux_2_28_x86_64 unless given: a glibc that it has, and its processor
#   --extras=NAMES          of gpu, beam and sql, comma-separated
#   --without-biobert, --without-scispacy-model
# Copies that you have: BIOBERT_DIR (a folder), BIOBERT_URL or SCISPACY_MODEL_URL (a file or URL), whose
# SHA-256 are compared with BIOBERT_SHA256 and SCISPACY_MODEL_SHA256 if set. PYTHON has pip.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=run_scripts/downloads.sh
source "$ROOT/run_scripts/downloads.sh"

# pip with the SHA-256 that PyPI tells.
PINNED_PIP=${PINNED_PIP:-pip==26.3 --hash=sha256:f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13}

require_variable BUNDLE_DIR "a new folder"
python_version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
platform=manylinux_2_28_$(uname -m)
extras="" with_biobert=1 with_scispacy_model=1
while (($#)); do
  option=${1%%=*}
  case $option in
  --python-version | --platform | --extras)
    if [[ $1 == *=* ]]; then value=${1#*=}; else
      (($# > 1)) || fail "$option: found no value" 2
      shift
      value=$1
    fi
    case $option in
    --python-version) python_version=$value ;;
    --platform) platform=$value ;;
    --extras) extras=$value ;;
    esac
    ;;
  --without-biobert) with_biobert=0 ;;
  --without-scispacy-model) with_scispacy_model=0 ;;
  *) fail "found $1; expected --python-version, --platform, --extras, --without-biobert or --without-scispacy-model" 2 ;;
  esac
  shift
done
[[ $python_version =~ ^3\.1[123]$ ]] || fail "--python-version: found $python_version; expected 3.11, 3.12 or 3.13" 2
[[ $platform =~ ^manylinux_2_([0-9]+)_(x86_64|aarch64)$ ]] ||
  fail "--platform: found $platform; expected one such as manylinux_2_28_x86_64 or manylinux_2_34_aarch64" 2
glibc=${BASH_REMATCH[1]} machine=${BASH_REMATCH[2]}
for extra in ${extras//,/ }; do
  [[ $extra =~ ^(gpu|beam|sql)$ ]] || fail "--extras: found $extra; expected gpu, beam or sql" 2
done
BUNDLE_DIR=$(realpath -m "$BUNDLE_DIR")
[[ ! -e $BUNDLE_DIR ]] || fail "$BUNDLE_DIR is there already; name a new folder in BUNDLE_DIR"
[[ -z "${BIOBERT_DIR:-}" || -f $BIOBERT_DIR/bert_config.json ]] ||
  fail "BIOBERT_DIR: $BIOBERT_DIR holds no bert_config.json; expected an unpacked BioBERT release"

mkdir -p "$(dirname "$BUNDLE_DIR")"
work=$(mktemp -d "$BUNDLE_DIR.partial.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/models"

step() { printf '\n== %s\n' "$1"; }

step "The project"
if [[ $(git -C "$ROOT" rev-parse --show-toplevel 2>/dev/null) == "$ROOT" ]]; then
  git -C "$ROOT" ls-files -z >"$work/files"
else
  # What an sdist holds, without what was made in it.
  (cd "$ROOT" && find . \( -name '.venv*' -o -name __pycache__ -o -name 'quickstart_output*' -o \
    -path "./$(realpath --relative-to=. "$(dirname "$BUNDLE_DIR")")/$(basename "$BUNDLE_DIR")*" \) \
    -prune -o -type f -print0) >"$work/files"
fi
attempt tar -czf "$work/bert-clinical.tar.gz" -C "$ROOT" --transform='s,^\(\./\)\?,bert-clinical/,S' \
  --owner=0 --group=0 --null --verbatim-files-from --files-from="$work/files" || fail "the project could not be packed; tar's message stands above"
rm "$work/files"

step "Wheels for Python $python_version on $platform${extras:+, with $extras}"
attempt "$PYTHON" "$ROOT/run_scripts/bundle/select_from_lock.py" --python-version="$python_version" \
  --machine="$machine" --extras="$extras" "$ROOT" >"$work/requirements.lock" || exit 1
echo "$PINNED_PIP" >>"$work/requirements.lock"
# pip takes each name as it stands: what an older glibc can run, this one can.
platforms=(--platform="linux_$machine")
for ((minor = glibc; minor >= 5; minor--)); do platforms+=(--platform="manylinux_2_${minor}_$machine"); done
for old in 2014 2010 1; do platforms+=(--platform="manylinux${old}_$machine"); done
attempt "$PYTHON" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
  --only-binary=:all: --implementation=cp --python-version="$python_version" "${platforms[@]}" \
  --requirement="$work/requirements.lock" --dest="$work/wheels" ||
  fail "pip could not fetch all wheels; its message stands above"

if ((with_biobert)); then
  step "BioBERT"
  if [[ -n "${BIOBERT_DIR:-}" ]]; then
    attempt tar -cf "$work/models/biobert.tar.gz" --use-compress-program='gzip -1' --owner=0 --group=0 \
      -C "$(dirname "$BIOBERT_DIR")" "$(basename "$BIOBERT_DIR")" || fail "BIOBERT_DIR could not be packed"
  else
    download "$BIOBERT_URL" "$work/models/biobert.tar.gz"
    check_sha256 "$work/models/biobert.tar.gz" "$BIOBERT_SHA256" BIOBERT_SHA256
  fi
fi

if ((with_scispacy_model)); then
  step "The SciSpacy model"
  name=$(basename "${SCISPACY_MODEL_URL%%[?#]*}")
  download "$SCISPACY_MODEL_URL" "$work/models/$name"
  check_sha256 "$work/models/$name" "$SCISPACY_MODEL_SHA256" SCISPACY_MODEL_SHA256
fi

step "What install.sh knows"
cat >"$work/bundle.env" <<END
PYTHON_VERSION=$python_version
MACHINE=$machine
GLIBC_MINOR=$glibc
EXTRAS="${extras//,/ }"
SCISPACY_MODEL=${name:-}
END
cp "$ROOT/run_scripts/bundle/install.sh" "$ROOT/run_scripts/stages.sh" "$work"
cd "$work"
mapfile -d '' -t files < <(find . -type f -print0 | LC_ALL=C sort -z)
attempt sha256sum -- "${files[@]}" >SHA256SUMS || fail "a file of the bundle could not be read"
cd /
chmod go+rX "$work"
mv -T "$work" "$BUNDLE_DIR"
printf '\n%s: %s in %d files. Copy the folder, and run ./install.sh in it.\n' \
  "$BUNDLE_DIR" "$(du -sh "$BUNDLE_DIR" | cut -f1)" "${#files[@]}"
