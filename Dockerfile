# The programs in an image, from the lock: every package by its SHA-256.
#   docker build -t bert-clinical .
#   docker build -t bert-clinical:gpu --build-arg LOCK=requirements-gpu.lock .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v /data:/data bert-clinical:gpu run_pretraining --help
ARG PYTHON_VERSION=3.11
FROM python:${PYTHON_VERSION}-slim-bookworm

ARG LOCK=requirements.lock
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHON=python

WORKDIR /opt/bert-clinical
COPY requirements.lock requirements-gpu.lock ./
RUN pip install --require-hashes -r "${LOCK}"
COPY . .
RUN pip install --no-deps --no-build-isolation -e . \
    && useradd --create-home --uid 1000 clinical
# The SciSpacy model, where the network that builds the image reaches it, or from a copy in the folder:
#   RUN SCISPACY_MODEL_URL=en_core_sci_md-0.5.4.tar.gz run_scripts/install_scispacy_model.sh

USER 1000:1000
WORKDIR /data
# Caches of Matplotlib and Numba, for whoever runs it.
ENV HOME=/tmp NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["/opt/bert-clinical/run_scripts/container/entry.sh"]
