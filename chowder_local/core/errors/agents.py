"""Errors: what an agent's gateway, channels, skills and files do not do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chowder_local.core.errors import ChowderError

if TYPE_CHECKING:
    from collections.abc import Iterable


class GatewayUnavailable(ChowderError):
    """An agent's gateway does not answer."""

    code = "gateway_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Gateway unavailable – {reason}")


class GatewaySuspended(GatewayUnavailable):
    """It takes nothing new for as long as a stop or a copy of its agent is under way."""

    code = "gateway_suspended"


class ServerStopping(GatewayUnavailable):
    """The server ends before an agent's answer does."""

    code = "server_stopping"

    def __init__(self) -> None:
        super().__init__("the server is stopping")


class AgentDiskFull(GatewayUnavailable):
    """An agent can do nothing, because nothing more fits on the disk that its files are on."""

    code = "agent_disk_full"

    def __init__(self) -> None:
        super().__init__(
            "no space is left on the disk that the agent's files are on. Make room there "
            "('docker system df' shows what takes it), and send the message again"
        )


class AgentRenewed(GatewayUnavailable):
    """An agent does not get over what has befallen it, so it is booted again on its volume."""

    code = "agent_renewed"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the agent has not got over {what}, so it is started again. Send the message again "
            "in a moment"
        )


class Problem(NamedTuple):
    """What is wrong at a place of a configuration; the path is dotted, as OpenClaw writes it."""

    path: str
    words: str

    def __str__(self) -> str:
        return f"{self.path or '<root>'}: {self.words}"


class RpcRefused(ChowderError):
    """A gateway refuses a control call; the words are its own, and so are all the problems."""

    code = "rpc_refused"

    def __init__(self, words: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(words)
        self.problems = tuple(problems)


class ConfigRefused(ChowderError):
    """OpenClaw does not take a configuration; the words are its own.

    `problems` has all of them with their places, as far as these are known.
    """

    code = "config_refused"

    def __init__(self, words: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(words)
        self.problems = tuple(problems)


class ConfigNotApplied(ConfigRefused):
    """OpenClaw has written a configuration that it then cannot use; the words are its own."""

    code = "config_not_applied"


class MessageRefused(ChowderError):
    """The gateway does not take a message; the words are its own."""

    code = "message_refused"


class MessageTooLarge(MessageRefused):
    """The gateway takes no message of this size."""

    code = "message_too_large"

    def __init__(self) -> None:
        super().__init__("The message is larger than the agent's gateway takes.")


class AnswerUnfit(ChowderError):
    """A model did not answer in the form that was demanded; the words say how."""

    code = "answer_unfit"


class ChannelNotFound(ChowderError):
    """OpenClaw has no such channel."""

    code = "channel_not_found"

    def __init__(self) -> None:
        super().__init__("Channel not found.")


class PairingNotFound(ChowderError):
    """Nobody waits to be let in with such a code."""

    code = "pairing_not_found"

    def __init__(self) -> None:
        super().__init__("No pending pairing request has this code.")


class ChannelRefused(ChowderError):
    """A messenger does not take what it is given; the words are OpenClaw's."""

    code = "channel_refused"


class ChannelUnreachable(ChowderError):
    """A messenger is set up, but not connected; the words are OpenClaw's."""

    code = "channel_unreachable"

    def __init__(self, channel: str, reason: str | None) -> None:
        words = (reason or "OpenClaw does not say why").rstrip(".")
        super().__init__(f"{channel} is set up, but not connected yet: {words}.")


class SkillNotFound(ChowderError):
    """The agent, or ClawHub, has no such skill."""

    code = "skill_not_found"

    def __init__(self, words: str = "Skill not found.") -> None:
        super().__init__(words)


class SkillInstalled(ChowderError):
    """The agent has a skill of that name in its workspace already."""

    code = "skill_installed"

    def __init__(self, slug: str) -> None:
        super().__init__(f"Skill {slug!r} is installed already.")


class SkillRefused(ChowderError):
    """OpenClaw does not install a skill; the words are its own."""

    code = "skill_refused"


class ClawHubUnavailable(ChowderError):
    """ClawHub cannot be reached from a sandbox, or does not do what it should."""

    code = "claw_hub_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"ClawHub unavailable – {reason}. Nothing was installed.")


class FileMissing(ChowderError):
    """An agent has no such file or folder."""

    code = "file_missing"

    def __init__(self) -> None:
        super().__init__("File not found.")


class FileRefused(ChowderError):
    """A path cannot be used for what is asked; the words say why."""

    code = "file_refused"


class FileTooLarge(ChowderError):
    """A file is too long to be read as text."""

    code = "file_too_large"

    def __init__(self, path: str, limit_bytes: int) -> None:
        super().__init__(
            f"{path} is longer than the {limit_bytes} bytes that can be read as text; "
            "GET …/files/download gives files of any size."
        )


class SandboxFull(ChowderError):
    """No space is left where an agent's files are."""

    code = "sandbox_full"

    def __init__(self) -> None:
        super().__init__("No space is left for the agent's files; nothing was changed.")
