"""Why an agent failed, from what the API tells about it (pure)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SUSPICIOUS = re.compile(r"error|fail|refus|denied|timeout|timed out|invalid|fatal", re.IGNORECASE)
MAX_LINES = 20

Json = dict[str, Any]


def explain(
    instance: Json,
    calls: Sequence[Json],
    faults: Sequence[Json],
    log: Sequence[str],
    *,
    is_hibernated: bool = False,
) -> Json:
    """All that is known of a failure, and a `summary` for a person.

    `calls` are the agent's model calls, the latest first; `faults` the organization's; `log` the
    last lines of its sandbox.
    """
    own = [each for each in faults if each["instance_id"] in (None, instance["id"])]
    failed = next((each for each in calls if _has_failed(each)), None)
    is_over = failed is not None and failed is not calls[0]
    suspicious = [line for line in log if SUSPICIOUS.search(line)][-MAX_LINES:]
    return {
        "summary": " ".join(_sentences(instance, failed, own, is_over=is_over)),
        "status": instance["status"],
        "error_message": instance["error_message"],
        "is_hibernated": is_hibernated,
        "failed_model_call": failed,
        "faults": own,
        "log": suspicious or list(log)[-MAX_LINES:],
    }


def _has_failed(call: Mapping[str, Any]) -> bool:
    return call["error"] is not None or (call["status"] or 0) >= 400


def _sentences(
    instance: Json, failed: Json | None, faults: Sequence[Json], *, is_over: bool
) -> list[str]:
    sentences: list[str] = []
    if instance["status"] == "error":
        sentences.append(f"The instance is in error: {instance['error_message']}")
    elif instance["status"] != "running":
        sentences.append(
            f"The instance is {instance['status']}, and takes messages when it is running."
        )
    if failed is not None:
        why = failed["error"] or f"the provider answered {failed['status']}"
        sentences.append(f"The model call {failed['id']} to {failed['provider']} failed: {why}.")
        if is_over:
            sentences.append("Later calls succeeded.")
    if faults:
        kinds = ", ".join(f"{each['kind']} ({each['left']} left)" for each in faults)
        sentences.append(f"Faults are set, which make calls fail on purpose: {kinds}.")
    return sentences or ["Nothing has failed: it runs, its model calls succeeded, no fault is set."]
