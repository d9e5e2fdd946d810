"""The engines, from Maven Central, PyPI and Go's proxy, fetched once into a cache.

Beam's job servers are released as single jars, beam-runners-flink-1.19-job-server and
beam-runners-spark-3-job-server; here the libraries that they are made of stand in for them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

BEAM_JAVA = "2.62.0"
FLINK = "1.19.0"
SPARK = "3.5.3"
PRISM = "2.77.0"

_FLINK = {
    **{f"org.apache.flink:{name}": FLINK for name in
       ("flink-runtime", "flink-clients", "flink-streaming-java", "flink-java")},
    "org.slf4j:slf4j-simple": "1.7.36",
}  # fmt: skip
_FLINK_JOB_SERVER = {
    "org.apache.beam:beam-runners-flink-1.19": BEAM_JAVA,
    "org.slf4j:slf4j-simple": "1.7.36",
}
_SPARK_JOB_SERVER = {
    "org.apache.beam:beam-runners-spark-3": BEAM_JAVA,
    **{f"org.apache.spark:{name}_2.12": SPARK for name in
       ("spark-core", "spark-streaming", "spark-sql")},
    "org.slf4j:slf4j-api": "2.0.7",
}  # fmt: skip


def cache() -> Path:
    """Returns where engines are kept: $BERT_CLINICAL_CLUSTERS, or a folder of the user's cache."""
    given = os.environ.get("BERT_CLINICAL_CLUSTERS")
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(given) if given else base / "bert-clinical-clusters"


def why_no_java() -> str | None:
    """Returns why engines of Java's cannot be had, None if they can."""
    missing = [command for command in ("java", "mvn") if shutil.which(command) is None]
    if missing:
        return f"no command {', '.join(missing)} (Debian: default-jre-headless, maven)"
    return None


def why_no_go() -> str | None:
    """Returns why Prism cannot be had, None if it can."""
    return None if shutil.which("go") else "no command go (Debian: golang)"


def flink() -> Path:
    """Returns the folder of Flink's jars."""
    return _jars("flink", _FLINK)


def flink_job_server() -> Path:
    """Returns the folder of the jars of Beam's job server for Flink."""
    return _jars("flink-job-server", _FLINK_JOB_SERVER)


def spark_job_server() -> Path:
    """Returns the folder of the jars of Beam's job server for Spark, the driver."""
    return _jars("spark-job-server", _SPARK_JOB_SERVER)


def spark() -> Path:
    """Returns the folder of a whole Spark."""

    def install(folder: Path) -> None:
        _run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--target",
                str(folder),
                f"pyspark=={SPARK}",
            ]
        )

    return _once(f"pyspark-{SPARK}", install) / "pyspark"


def prism() -> Path:
    """Returns Prism's program."""

    def install(folder: Path) -> None:
        source = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{PRISM}"
        _run(["go", "install", source], GOBIN=str(folder))

    return _once(f"prism-{PRISM}", install) / "prism"


def _jars(name: str, dependencies: Mapping[str, str]) -> Path:
    pom = _POM.format(
        "".join(_DEPENDENCY.format(*key.split(":"), version)
                for key, version in dependencies.items())
    )  # fmt: skip

    def install(folder: Path) -> None:
        (folder / "pom.xml").write_text(pom)
        _run(
            [
                "mvn",
                "-B",
                "-q",
                "-f",
                str(folder / "pom.xml"),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={folder / 'jars'}",
            ]
        )

    return _once(f"{name}-{hashlib.sha256(pom.encode()).hexdigest()[:12]}", install) / "jars"


_POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>clusters</groupId><artifactId>clusters</artifactId><version>1</version>
<packaging>pom</packaging><dependencies>{}</dependencies></project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)


def _once(name: str, install: Callable[[Path], None]) -> Path:
    """Returns a folder of the cache; an installation that ended early leaves none."""
    folder = cache() / name
    if not folder.exists():
        print(f"Fetching {name} into {cache()}", flush=True)
        partial = folder.with_name(f"{name}.{os.getpid()}.partial")
        partial.mkdir(parents=True)
        try:
            install(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _run(command: list[str], **environment: str) -> None:
    result = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{' '.join(command)}:\n{result.stdout}{result.stderr}"
