"""Errors of an agent's gateway, channels, skills, files and OpenClaw release."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chowder_local.core.errors import ChowderError

if TYPE_CHECKING:
    from collections.abc import Iterable


class GatewayUnavailable(ChowderError):
    """The instance's gateway does not answer, or it cannot do what the call needs."""

    http_status = 502
    is_proxied = True
    remedy = (
        "Send the request again. If it fails again, read the sandbox's log with `chowder-local "
        "logs INSTANCE`."
    )

    def __init__(self, reason: str) -> None:
        super().__init__(f"Gateway unavailable – {reason}")


class GatewaySuspended(GatewayUnavailable):
    """A stop, a snapshot or a fork of the instance is in progress, and has taken longer than the
    150 s for which calls wait.
    """

    remedy = "Send the request again in a moment."


class ServerStopping(GatewayUnavailable):
    """The server stopped before the answer was complete."""

    remedy = "Send the request again once the server runs."

    def __init__(self) -> None:
        super().__init__("the server is stopping")


class AgentDiskFull(GatewayUnavailable):
    """The disk that holds the instance's files is full, so the agent cannot work."""

    http_status = 507
    remedy = "Free disk space on the engine's machine and send the request again."

    def __init__(self) -> None:
        super().__init__(
            "no space is left on the disk that the agent's files are on. Free space there "
            "('docker system df' shows what uses it), and send the request again"
        )


class AgentRenewed(GatewayUnavailable):
    """The agent cannot recover from a full disk, so the server boots the instance again on its
    volume.
    """

    remedy = "Wait until the instance is `running` and send the message again."

    def __init__(self) -> None:
        super().__init__(
            "the agent cannot recover from a full disk, so the server starts it again. Send the "
            "message again in a moment"
        )


class ConversationsAtRest(ChowderError):
    """The conversations of an instance that is not in memory cannot be read with its OpenClaw."""

    http_status = 409
    remedy = (
        "Start the instance, or send it a message if it is `running`, and read them then. "
        "`chowder-local doctor` says why the server cannot read them from the instance's files."
    )
    message = (
        "The conversations can be read only while the agent is in memory, because the server does "
        "not know this OpenClaw's database. Start the instance, or send it a message."
    )


class ConfigProblem(NamedTuple):
    """A problem in a configuration, at a dotted path as OpenClaw writes it."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path or '<root>'}: {self.text}"


class RpcRefused(ChowderError):
    """The gateway refuses a control call. The message is OpenClaw's.

    `problems` has the problems whose paths are known.
    """

    http_status = 502
    is_proxied = True
    remedy = "Correct what the message names."

    def __init__(self, message: str, problems: Iterable[ConfigProblem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ConfigRefused(ChowderError):
    """A configuration is invalid for OpenClaw, or sets what the server reserves for itself.

    `problems` has the problems whose paths are known.
    """

    http_status = 400
    remedy = (
        "Correct the paths that the message names. The instance keeps its former configuration."
    )

    def __init__(self, message: str, problems: Iterable[ConfigProblem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ConfigNotApplied(ConfigRefused):
    """OpenClaw has written a configuration that it then cannot use. The message is OpenClaw's."""

    remedy = "Correct the paths that the message names."


class MessageRefused(ChowderError):
    """The body of a message has a member or an item that the agent does not take."""

    http_status = 400
    remedy = "Correct the member that the text names."


class MessageTooLarge(MessageRefused):
    """The message is larger than the gateway takes."""

    http_status = 413
    remedy = "Send a shorter message, or upload the content as a file."
    message = "The message is larger than the agent's gateway takes."


class AnswerUnfit(ChowderError):
    """The model's answer does not fit `text.format`, or calls no function although `tool_choice`
    demands one.
    """

    # Not a status that clients retry: the agent would do its work a second time.
    http_status = 400
    remedy = (
        "Send the message again, or demand less. SDKs do not retry by themselves, because the "
        "agent has already done its work."
    )


class ChannelNotFound(ChowderError):
    """No channel has the name in the path."""

    http_status = 404
    remedy = "Use a name from `GET /v1/instances/{instance_id}/channels`."
    message = "Channel not found."


class PairingNotFound(ChowderError):
    """No pending pairing request of the channel has the code."""

    http_status = 404
    title = "Not paired"
    remedy = "Let the sender write to the agent again, and use the new code."
    message = "No pending pairing request has this code."


class ChannelRefused(ChowderError):
    """The messenger refuses the credentials or the code. The message is OpenClaw's."""

    http_status = 400
    title = "Not connected"
    remedy = "Correct the credentials and connect the channel again."


class ChannelUnreachable(ChowderError):
    """The channel is configured, but OpenClaw has not connected it in time."""

    http_status = 502
    is_proxied = True
    title = "Not connected"
    remedy = "Poll the status of the channel: OpenClaw keeps trying."

    def __init__(self, channel: str, reason: str | None) -> None:
        cause = (reason or "OpenClaw does not say why").rstrip(".")
        super().__init__(f"{channel} is set up, but not connected yet: {cause}.")


class ChannelNotLocal(ChowderError):
    """The channel is not connected to the local messenger, so that nobody here can write to it."""

    http_status = 409
    remedy = (
        'Connect it with `{"config": {"offline": true}}` in '
        "`POST /v1/instances/{instance_id}/channels/{channel}/connect`."
    )

    def __init__(self, channel: str) -> None:
        super().__init__(
            f"{channel} is not connected to the local messenger; connect it with `offline`."
        )


class SandboxTooOld(ChowderError):
    """The agent's sandbox is of an image that cannot do what is asked."""

    http_status = 409
    remedy = (
        "Build the present image with `chowder-local image build` (`up` does it, too). Then take a "
        "snapshot of the agent and restore it, which boots it from that image."
    )

    def __init__(self, purpose: str) -> None:
        super().__init__(f"The agent's sandbox is of an image that cannot {purpose}. {self.remedy}")


class SkillNotFound(ChowderError):
    """The agent has no such skill, or ClawHub has none for the slug."""

    http_status = 404
    remedy = (
        "Use a name from `GET /v1/instances/{instance_id}/skills`, or a slug that ClawHub lists."
    )
    message = "Skill not found."


class SkillInstalled(ChowderError):
    """The skill is installed already."""

    http_status = 409
    remedy = (
        "Change its settings with `PATCH /v1/instances/{instance_id}/skills/{skill_name}` instead."
    )

    def __init__(self, slug: str) -> None:
        super().__init__(f"Skill {slug!r} is installed already.")


class SkillRefused(ChowderError):
    """OpenClaw does not install the skill. The message is OpenClaw's."""

    http_status = 400
    remedy = "Correct what the message names."


class ClawHubUnavailable(ChowderError):
    """The sandbox cannot reach ClawHub, or ClawHub fails."""

    http_status = 502
    is_proxied = True
    title = "ClawHub is unavailable"
    remedy = (
        "Check that the instance's egress is `on`, or set `CHOWDER_CLAWHUB_URL`, and try again."
    )

    def __init__(self, reason: str) -> None:
        super().__init__(f"ClawHub unavailable – {reason}. Nothing was installed.")


class FileMissing(ChowderError):
    """No file or folder is at the path."""

    http_status = 404
    remedy = "List the folder with `GET /v1/instances/{instance_id}/files`."
    message = "File not found."


class FileRefused(ChowderError):
    """The path cannot be used for the operation: it is absolute, leads out of the home, or is not a
    text file.
    """

    http_status = 400
    remedy = "Correct the path as the message says."


class FileTooLarge(ChowderError):
    """The file is too large to be read as text."""

    http_status = 413
    remedy = "Download it with `GET /v1/instances/{instance_id}/files/download`."

    def __init__(self, path: str, limit_bytes: int) -> None:
        super().__init__(
            f"{path} is longer than the {limit_bytes} bytes that can be read as text; "
            "GET …/files/download gives files of any size."
        )


class SandboxFull(ChowderError):
    """The disk has no space for the agent's files."""

    http_status = 507
    remedy = "Remove files of the agent or free disk space on the engine's machine, and try again."
    message = "No space is left for the agent's files; nothing was changed."


class TraceNotFound(ChowderError):
    """The instance has no turn or answer with this id, or it is not in memory any more."""

    http_status = 404
    remedy = "Use an `id` or `response_id` from `GET /local/instances/{instance_id}/traces`."
    message = "Trace not found: only those of the latest turns are kept, until the server ends."


class RunNotFound(ChowderError):
    """There is no turn, session or agent of this name, or its turns are not in memory any more."""

    http_status = 404
    remedy = "Name a turn by an `id` or a `response_id` of its trace, an agent, or AGENT:SESSION."

    def __init__(self, reference: str, problem: str = "is no turn, agent or session") -> None:
        super().__init__(
            f"{reference[:200]!r} {problem} whose turns are in memory. Name a turn by its id or "
            "its answer's, an agent, or a session as AGENT:SESSION."
        )


class VersionUnavailable(ChowderError):
    """The server cannot run an OpenClaw release, because it has no image of it."""

    http_status = 400
    remedy = "Build its image with `chowder-local image build --openclaw`, or name another release."

    def __init__(self, version: str) -> None:
        super().__init__(
            f"OpenClaw {version} is not available: its image is not on the engine. Build it with: "
            f"chowder-local image build --openclaw {version}"
        )


class UpgradeRefused(ChowderError):
    """An instance cannot move to the OpenClaw release that an upgrade names."""

    http_status = 409
    remedy = "Name a newer release. To go back, restore the snapshot that the upgrade has taken."


class TurnCancelled(ChowderError):
    """Somebody has ended the agent's turn while the message was being answered."""

    # Not a status that clients retry: whoever has ended the turn wants it to end.
    http_status = 409
    remedy = "Send the message again if it is still wanted. The agent keeps what it has done."
    message = "The turn was cancelled before its end. The agent keeps what it has done."


class ActivityNotFound(ChowderError):
    """The agent has no turn or task in progress with this id."""

    http_status = 404
    remedy = "Use a `trace_id` or `task_id` from `GET /local/instances/{instance_id}/activity`."
    message = "The agent has no such turn or task in progress: it may have ended."


class SessionRefused(ChowderError):
    """OpenClaw does not change the session now, or not at all. The message is OpenClaw's."""

    http_status = 409
    remedy = "Wait until the session's turn has ended, or abort it. Reset the main session instead."


class InstanceInUse(ChowderError):
    """The instance is answering a message, and the call would interrupt it."""

    http_status = 409
    remedy = "Wait for the answer, and try again."
    retry = "yes"

    message = "The instance is answering a message. Try again when it has answered."
