"""Options of a pipeline: refused where Beam would pass over them, and completed."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from apache_beam.options.pipeline_options import (
    DebugOptions,
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
)
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.portable_runner import PortableRunner

from data_prep.beam import worker_pool as beam_worker_pool
from data_prep.common.errors import UsageError, one_line

# Otherwise Beam asks pip, at every job, for a list of what is installed here, and stages it.
_NO_LIST_OF_PACKAGES = "disable_logging_submission_environment"
_SECONDS_FOR_JOB_SERVER = 45.0


def parse(options: Sequence[str]) -> PipelineOptions:
    """Returns the options as Beam reads them.

    Raises:
      UsageError: it cannot.
    """
    parsed = PipelineOptions(list(options))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed.get_all_options()
    except SystemExit:
        why = one_line(said.getvalue().rpartition("error: ")[2])
        raise UsageError(f"--pipeline_options: Beam does not take them: {why}") from None
    return parsed


def require_known(options: Sequence[str], engine: Any) -> None:
    """Refuses options that neither Beam nor the runner knows, over which Beam passes in silence.

    Options of a job server's own are known only once it answers: these are looked at when the
    runner connects to it.

    Raises:
      UsageError: there is one, also later out of the runner.
    """
    known = set(PipelineOptions([]).get_all_options())
    unknown = set(PipelineOptions(list(options)).get_all_options(retain_unknown_options=True))
    unknown -= known
    if not unknown:
        return
    if not isinstance(engine, PortableRunner):
        raise _unknown(unknown, known)
    connect = engine.create_job_service_handle

    def checked(job_service: Any, parsed: Any) -> Any:
        request = beam_job_api_pb2.DescribePipelineOptionsRequest()
        described = job_service.DescribePipelineOptions(request).options
        names = {option.name for option in described}
        if unknown - names:
            raise _unknown(unknown - names, known | names)
        return connect(job_service, parsed)

    engine.create_job_service_handle = checked


def completed(parsed: PipelineOptions) -> PipelineOptions:
    """Adds what every pipeline of this project says."""
    parsed.view_as(DebugOptions).add_experiment(_NO_LIST_OF_PACKAGES)
    portable = parsed.view_as(PortableOptions)
    if _is_external(portable) and portable.environment_config:
        config = _external(portable)
        config["params"] = {**config.get("params", {}), **beam_worker_pool.params_for_pool()}
        portable.environment_config = json.dumps(config)
    return parsed


def submits(engine: Any) -> bool:
    """Returns whether a runner hands a job over, and has not run it when it returns."""
    return isinstance(engine, PortableRunner) or type(engine).__name__ == "DataflowRunner"


def job_endpoint(parsed: PipelineOptions) -> str | None:
    """Returns where a job server is to be, None if there is to be none or Beam starts it."""
    endpoint = parsed.view_as(PortableOptions).job_endpoint
    return None if endpoint in (None, "", "embed") else endpoint


def seconds_for_job_server(options: Sequence[str]) -> float:
    """Returns how long a job server may take to answer: as given, else less than Beam waits."""
    # Beam does not tell its default from the same number given.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--job_server_timeout", "--job-server-timeout", type=float, default=_SECONDS_FOR_JOB_SERVER
    )
    return parser.parse_known_args(options)[0].job_server_timeout


def flink_master(parsed: PipelineOptions) -> str | None:
    """Returns the address of Flink's job manager, if one is named."""
    return parsed.view_as(FlinkRunnerOptions).flink_master


def where_workers_come_from(parsed: PipelineOptions, where_to_look: str) -> str:
    """Returns where to look while no worker has begun."""
    portable = parsed.view_as(PortableOptions)
    if _is_external(portable) and portable.environment_config:
        pool = _external(portable).get("url")
        return (
            f"whether bert-clinical-worker-pool runs at {pool} on each node and what it has "
            f"logged, whether the engine has enough slots free, and {where_to_look}"
        )
    if job_endpoint(parsed) is not None:
        return f"whether the nodes have Docker and the image of the workers, and {where_to_look}"
    return where_to_look


def _is_external(portable: Any) -> bool:
    return (portable.environment_type or "").upper() in ("EXTERNAL", "BEAM:ENV:EXTERNAL:V1")


def _external(portable: Any) -> dict[str, Any]:
    config = portable.environment_config.strip()
    return json.loads(config) if config.startswith("{") else {"url": config}


def _unknown(unknown: Iterable[str], known: Iterable[str]) -> UsageError:
    name = min(unknown)
    near = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean --{near[0]}?" if near else "see the manual of Beam and of the runner"
    return UsageError(f"--pipeline_options: neither Beam nor the runner knows --{name}; {advice}")
