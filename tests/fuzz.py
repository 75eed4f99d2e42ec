"""Runs schemathesis against a server and its OpenAPI document, and tells what it found."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.engine import events, from_schema
from schemathesis.hooks import unregister

from chowder_local.api.openapi.document import MEDIA_EXAMPLES, UUID

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from schemathesis import BaseSchema
    from schemathesis.core.failures import Failure
    from schemathesis.engine.recorder import ScenarioRecorder

    AnyCase = schemathesis.Case[Any]

SEED = 20260504
MAX_EXAMPLES = 2
LEARNING = {"extra-data-sources": {"responses": True}}
PHASES: dict[str, dict[str, Any]] = {
    "examples": LEARNING,
    # That a path has no other methods is the route table's to prove.
    "coverage": {**LEARNING, "unexpected-methods": []},
    "fuzzing": LEARNING,
    # Values of earlier answers take the place of invalid ones there.
    "stateful": {"generation": {"mode": "positive"}},
}
SHOWN_BYTES = 300
ANY_BYTES = (MEDIA_EXAMPLES["application/octet-stream"], b"any bytes")
"""The document's example of a body that is no JSON, as a text and as what is sent."""

CHECKS = {
    # What is terminated can still be looked at, and says so: the contract keeps its row.
    "use_after_free": {"enabled": False},
}
"""What is judged otherwise than schemathesis would, with the reason."""


def taking(label: str, *statuses: int) -> dict[str, Any]:
    """Lets an operation refuse what its schema allows, for what no schema can say."""
    usual = ["2xx", "3xx", 401, 403, 404, 409]
    checks = {"positive_data_acceptance": {"expected-statuses": [*usual, *statuses]}}
    if 200 in statuses:
        checks["negative_data_rejection"] = {"expected-statuses": [200, 400, 401, 403, 404, 422]}
    if 413 in statuses:
        checks["negative_data_rejection"] = {"expected-statuses": [400, 401, 403, 404, 413, 422]}
    return {"include-name": label, "checks": checks}


REFUSALS = [
    # The tier's limit is reached in the course of the run.
    taking("POST /v1/instances", 400, 402),
    # Whether OpenClaw takes a configuration is known to it alone.
    taking("PATCH /v1/instances/{instance_id}", 400),
    # Which OpenClaw releases have an image.
    taking("POST /local/instances/{instance_id}/upgrade", 400),
    # Models that nobody has, items that make no sense to OpenClaw, functions without a name.
    taking("POST /v1/instances/{instance_id}/responses", 400, 422),
    taking("POST /v1/instances/{instance_id}/session/{session_id}/responses", 400, 422),
    # Expressions and templates that nobody can read, and answers with two texts; and they are long.
    taking("PUT /local/replies", 413, 422),
    # At least one limit, and one way to go on.
    taking("PUT /local/budget", 422),
    taking("PUT /local/instances/{instance_id}/budget", 422),
    taking("PUT /local/instances/{instance_id}/breakpoint", 413, 422),
    taking("POST /local/held-calls/{model_call_id}/resume", 413, 422),
    taking("PUT /local/instances/{instance_id}/replies", 413, 422),
    taking("PUT /local/instances/{instance_id}/recording", 413),
    # A time that is over.
    taking("POST /v1/keys", 422),
    # What a channel needs besides its token, and what else OpenClaw has to say of it.
    taking("POST /v1/instances/{instance_id}/channels/{channel}/connect", 400, 422),
    # Models and time zones that nobody has, and what is null.
    taking("POST /local/instances/{instance_id}/jobs", 400, 422),
    taking("PATCH /local/instances/{instance_id}/jobs/{job_id}", 400, 422),
    # One of three ways to say how far.
    taking("POST /local/instances/{instance_id}/clock/advance", 422),
    # OpenClaw's own hooks judge their bodies.
    taking("POST /local/instances/{instance_id}/hooks/{hook}", 200, 400),
    # What goes with another kind, and paths that no call has.
    taking("POST /local/faults", 422),
    # What is at the end of a path, and names that are too long in bytes.
    taking("GET /v1/instances/{instance_id}/files", 400),
    taking("GET /v1/instances/{instance_id}/files/content", 400),
    taking("PUT /v1/instances/{instance_id}/files/content", 400),
    taking("POST /v1/instances/{instance_id}/files/upload", 400),
    taking("GET /v1/instances/{instance_id}/files/download", 400),
    # Nothing but members that it does not know.
    taking("PATCH /v1/instances/{instance_id}/skills/{skill_name}", 422),
    # Of a copy, the tier's limit; and most bytes are no archive of an agent.
    taking("POST /local/instances/{instance_id}/fork", 402),
    taking("POST /local/snapshots/{snapshot_id}/fork", 402),
    taking("POST /local/instances/import", 400, 402),
]
"""What valid requests may be refused for, by operation."""


@dataclass
class Findings:
    """What came of a run."""

    cases: Counter[str] = field(default_factory=Counter)
    """How many requests each operation got."""
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    """By operation: how often each status was answered."""
    failures: dict[str, str] = field(default_factory=dict)
    """By what fails how: one request of which that is true."""

    def __str__(self) -> str:
        statuses: Counter[int] = sum(self.statuses.values(), Counter())
        counts = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        return (
            f"{len(self.statuses)} operations, {sum(self.cases.values())} cases, "
            f"{len(self.failures)} failures; answers {counts}"
        )

    def told(self) -> str:
        """The failures in full."""
        return "\n\n".join(f"{what}\n{sample}" for what, sample in self.failures.items())

    @property
    def never_successful(self) -> set[str]:
        """Operations none of whose requests came to anything."""
        return {
            label
            for label, counts in self.statuses.items()
            if not any(status < 400 for status in counts)
        }

    def note(self, event: events.EngineEvent) -> None:
        """Takes in what the run tells. Raises what has ended it."""
        if isinstance(event, events.ScenarioFinished):
            self._note_scenario(event.recorder)
        elif isinstance(event, events.NonFatalError):
            self.failures[event.label] = repr(event.value)
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.Interrupted):
            # Schemathesis keeps it to itself, and the run would go on with the next test.
            raise KeyboardInterrupt

    def _note_scenario(self, recorder: ScenarioRecorder) -> None:
        for case_id, interaction in recorder.interactions.items():
            label = recorder.cases[case_id].value.operation.label
            self.cases[label] += 1
            # Other methods than the document's are tried as well, and are not the operation's.
            is_its_own = interaction.request.method == label.partition(" ")[0]
            if interaction.response is not None and is_its_own:
                counts = self.statuses.setdefault(label, Counter())
                counts[interaction.response.status_code] += 1
        for case_id, checks in recorder.checks.items():
            for check in checks:
                if check.failure_info is None:
                    continue
                answer = recorder.interactions[case_id].response
                said = b"" if answer is None else (answer.content or b"")[:SHOWN_BYTES]
                what = f"{recorder.cases[case_id].value.operation.label}: {check.name}: {said!r}"
                found = check.failure_info
                self.failures.setdefault(what, f"{found.failure}\n{found.code_sample}")


def fuzz(
    root_url: str,
    key: str,
    *,
    operations: Sequence[Mapping[str, Any]],
    instance_id: str,
    snapshot_id: str,
    archive: bytes,
    phases: Collection[str] = frozenset(PHASES),
) -> Findings:
    """What the operations of a server answer to requests made from its document.

    `operations` are schemathesis' own settings for some of them. Where the document's examples
    have an id, `instance_id` is sent, or `snapshot_id`,
    and `archive` in place of any bytes. What the server answered is used in later requests.
    Deterministic, but for what the server does.
    """
    document = httpx.get(f"{root_url}/openapi-3.2.json", trust_env=False).json()
    close_answers(document)
    config = schemathesis.Config.from_dict(
        {
            "base-url": root_url,
            "headers": {"Authorization": f"Bearer {key}"},
            **_settings(phases),
            "operations": [*operations, *REFUSALS],
        }
    )
    schema: BaseSchema = schemathesis.openapi.from_dict(document, config=config)

    @schema.hook
    def filter_failure(_: Any, failure: Failure, case: AnyCase, __: Any) -> bool:
        return not (isinstance(failure, AcceptedNegativeData) and _is_valid(failure, case.body))

    @schemathesis.hook
    def before_call(_: Any, case: AnyCase, kwargs: dict[str, Any]) -> None:
        case.body = _placed(case.body, instance_id)
        if isinstance(case.body, dict) and case.body.get("snapshot_id") == instance_id:
            case.body["snapshot_id"] = snapshot_id
        if case.body in ANY_BYTES:
            case.body = archive
        # An agent whose configuration is overwritten with anything is broken, and 502 says so.
        if isinstance(case.body, dict) and "openclaw.json" in str(case.body.get("path")):
            case.body["path"] = "workspace/other.json"

    findings = Findings()
    try:
        for event in from_schema(schema).execute():
            findings.note(event)
    finally:
        unregister(before_call)
    return findings


def _settings(phases: Collection[str]) -> dict[str, Any]:
    return {
        "seed": SEED,
        # What an earlier run has seen must not change this one.
        "cache": {"enabled": False},
        "continue-on-failure": True,
        "request-timeout": 30,
        "generation": {
            "max-examples": MAX_EXAMPLES,
            "deterministic": True,
            "no-shrink": True,
            "database": "none",
        },
        "phases": {name: {**own, "enabled": name in phases} for name, own in PHASES.items()},
        "checks": CHECKS,
    }


def close_answers(document: dict[str, Any]) -> None:
    """Lets the document's answers have no members but those that it names.

    To clients it does not promise that there will never be more.
    """
    schemas = document["components"]["schemas"]
    operations = [each for path in document["paths"].values() for each in path.values()]
    answers = [answer for each in operations for answer in each["responses"].values()]
    seen: set[str] = set()
    rest: list[Any] = [document["components"]["responses"]]
    # A stream's events are read with more members than the document speaks of.
    rest += [answer.get("content", {}).get("application/json") for answer in answers]
    while rest:
        part = rest.pop()
        if isinstance(part, list):
            rest += part
        if not isinstance(part, dict):
            continue
        rest += part.values()
        if "properties" in part:
            part.setdefault("additionalProperties", False)
        name = str(part.get("$ref", "")).removeprefix("#/components/schemas/")
        if name in schemas and name not in seen:
            seen.add(name)
            rest.append(schemas[name])


def _is_valid(failure: AcceptedNegativeData, body: Any) -> bool:
    """Whether what should have been refused is good after all."""
    # A file's content is changed into another one, which is as good.
    if "positive test case" in failure.message:
        return True
    # Pydantic, and so FastAPI, reads truth values as numbers.
    wrong = re.findall(r"in body - (\w+): Incorrect type", failure.message)
    return bool(wrong) and all(isinstance(body.get(name), bool) for name in wrong)


def _placed(body: Any, instance_id: str) -> Any:
    if isinstance(body, dict):
        return {name: _placed(each, instance_id) for name, each in body.items()}
    if isinstance(body, list):
        return [_placed(each, instance_id) for each in body]
    return instance_id if body == UUID else body
