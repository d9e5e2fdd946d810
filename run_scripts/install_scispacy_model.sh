#!/usr/bin/env bash
# Installs AI2's SciSpacy model en_core_sci_md 0.5.4, 120 MB, which no package index holds. It pins an
# older spaCy, hence --no-deps. The package of that name on PyPI, version 999.9.9, is not AI2's: the
# archive is looked into before anything of it runs.
#   run_scripts/install_scispacy_model.sh
# SCISPACY_MODEL_URL can name a file that you have; SCISPACY_MODEL_SHA256 is compared if set.
set -euo pipefail
# shellcheck source=run_scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=run_scripts/downloads.sh
source "$ROOT/run_scripts/downloads.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
archive=$work/$(basename "${SCISPACY_MODEL_URL%%[?#]*}")

echo "Getting $SCISPACY_MODEL_URL"
download "$SCISPACY_MODEL_URL" "$archive"
check_sha256 "$archive" "$SCISPACY_MODEL_SHA256" SCISPACY_MODEL_SHA256

attempt "$PYTHON" - "$archive" <<'PYTHON' || exit 1
import json, sys, tarfile, zipfile

NAME, VERSION = "core_sci_md", "0.5.4"


def fail(message):
    sys.exit(f"install_scispacy_model.sh: error: {message}; expected AI2's en_{NAME} {VERSION}")


def model_descriptions(path):
    """Yields the text of each meta.json in the archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.rpartition("/")[2] == "meta.json":
                    yield archive.read(name)
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name.rpartition("/")[2] == "meta.json" and member.isfile():
                yield archive.extractfile(member).read()


try:
    found = [json.loads(text) for text in model_descriptions(sys.argv[1])]
except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, ValueError):
    fail("the file is no complete archive of a spaCy model")
if not found:
    fail("the archive holds no meta.json of a spaCy model")
for meta in found:
    label = f"{meta.get('lang')}_{meta.get('name')} {meta.get('version')}"
    if (meta.get("lang"), meta.get("name"), meta.get("version")) != ("en", NAME, VERSION):
        fail(f"found {label}, which is not AI2's or another release")
    if "parser" not in meta.get("pipeline", []):
        fail(f"found {label} without a parser")
PYTHON

attempt "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps "$archive" ||
  fail "pip could not install the model; its message stands above"

attempt "$PYTHON" - <<'PYTHON' || fail "the model was installed but does not load; try another release of spaCy 3.7 or 3.8"
import sys, warnings

warnings.simplefilter("ignore")
import spacy

meta = spacy.load("en_core_sci_md").meta
if "parser" not in meta["pipeline"] or meta["version"] != "0.5.4":
    sys.exit(1)
print(f"Installed {meta['lang']}_{meta['name']} {meta['version']}")
PYTHON
