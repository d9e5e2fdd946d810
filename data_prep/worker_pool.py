"""Gives the engine of a cluster, such as Flink or Spark, the workers that its pipelines run in.

Each node runs one pool, on the port that the pipeline's --environment_config names.

An engine asks the pool of its node for a worker for each of its jobs. Workers run with the pool's
Python and packages, and end when the job does, or the pool.

Example:
  bert-clinical-worker-pool --port=50000 --spacy_model=en_core_sci_md
"""

from __future__ import annotations

import importlib.metadata
import ipaddress
import logging
import os
import queue
import signal
import sys
from pathlib import Path
from typing import Any

from absl import flags

from data_prep.beam.flags import require_beam
from data_prep.common import program
from data_prep.common.errors import UsageError, UserError
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags."""
    flags.DEFINE_integer(
        "port",
        50000,
        "Where the engine asks for workers, as its --environment_config=localhost:PORT says; 0 for "
        "one that is free, which the first line names. Several pools of a host have each their "
        "own.",
        lower_bound=0,
        upper_bound=65535,
        flag_values=values,
    )
    flags.DEFINE_string(
        "address",
        "127.0.0.1",
        "The address to listen at. Whoever reaches another than the loopback runs code as the user "
        "of the pool.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "spacy_model",
        None,
        "Refuse to start unless this spaCy model is here, an installed one or a folder that holds "
        "one, and keep a worker ready that has imported spaCy.",
        flag_values=values,
    )


def main(values: ProgramFlags) -> int:
    """Serves workers until a signal ends it; returns 128 + its number."""
    address = _address(values.address)
    require_beam("a worker pool")
    if values.spacy_model is not None:
        _require_spacy_model(values.spacy_model)
    beam_worker_pool = _import_quietly()
    received: queue.SimpleQueue[int] = queue.SimpleQueue()
    for ends in _SIGNALS:
        # What nohup or a shell's background has had ignored stays so.
        if signal.getsignal(ends) is not signal.SIG_IGN:
            signal.signal(ends, lambda number, frame: received.put(number))
    modules = ["data_prep.formatting.beam.survey", "data_prep.formatting.beam.format_steps"]
    if values.spacy_model is not None:
        modules.append("data_prep.sentences.spacy_splitter")
    pool = beam_worker_pool.WorkerPool(modules)
    with beam_worker_pool.serving(pool, address, values.port) as port:
        _log.info(
            "workers for %s:%d with %s, %s",
            values.address, port, sys.executable,
            ", ".join(f"{name} {version}" for name, version in beam_worker_pool.versions().items()),
        )  # fmt: skip
        number = received.get()
        ended = pool.close()
    _log.info("ended by %s, with %d worker(s)", signal.Signals(number).name, ended)
    return 128 + number


def _address(text: str) -> str:
    """Returns the address as gRPC wants it.

    Raises:
      UsageError: it is none.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if text == "localhost" else text)
    except ValueError:
        raise UsageError(
            f"--address: found {text!r}; expected an address of this host, such as 127.0.0.1"
        ) from None
    if not address.is_loopback:
        _log.warning(
            "--address=%s: whoever reaches this port runs code as the user of the pool; leave it "
            "out, or let only the engine reach it",
            text,
        )
    return f"[{address}]" if address.version == 6 else str(address)


def _import_quietly() -> Any:
    """Returns the module that needs Beam, without what Beam and gRPC say of themselves."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        from data_prep.beam import worker_pool as beam_worker_pool
    finally:
        logging.disable(before)
    return beam_worker_pool


def _require_spacy_model(model: str) -> None:
    if Path(model, "config.cfg").is_file():
        return
    try:
        importlib.metadata.version(model)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"--spacy_model: found no spaCy model {model} for {sys.executable}; install it there, "
            "or start the pool by the Python that has it"
        ) from None


def cli() -> None:
    """The program's entry point."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
