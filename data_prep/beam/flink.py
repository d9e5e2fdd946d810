"""Ends a job within Flink, where its job server leaves it running.

Beam's job server for Flink answers that a job is cancelled when it has stopped waiting for it; the
job itself goes on. Flink's own interface ends it.

Source: Flink's REST API, `/jobs/overview` and `/jobs/:jobid`.
"""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

_ENDED = ("CANCELED", "FAILED", "FINISHED")
_SECONDS_TO_ANSWER = 5.0
_SECONDS_BETWEEN_LOOKS = 0.2


def address(flink_master: str | None) -> str | None:
    """Returns the address of Flink's interface, None if no master of a cluster is named."""
    if not flink_master or flink_master.startswith("["):
        return None
    return flink_master if "://" in flink_master else f"http://{flink_master}"


def cancel(address: str, job: str) -> None:
    """Cancels a job and waits until it has ended.

    Args:
      address: of Flink's interface.
      job: Beam's name of the job: Flink's, an underscore and a mark.

    Raises:
      OSError: Flink does not answer.
    """
    name = job.rpartition("_")[0]
    asked: set[str] = set()
    while running := [
        entry["jid"]
        for entry in _answer(f"{address}/jobs/overview")["jobs"]
        if entry["name"] == name and entry["state"] not in _ENDED
    ]:
        for jid in set(running) - asked:
            _answer(f"{address}/jobs/{jid}?mode=cancel", method="PATCH")
            asked.add(jid)
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _answer(url: str, method: str = "GET") -> Any:
    request = urllib.request.Request(url, method=method)
    with urllib.request.urlopen(request, timeout=_SECONDS_TO_ANSWER) as answer:
        return json.loads(answer.read() or b"null")
