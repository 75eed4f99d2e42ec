"""The hosted OpenClaw agents API on localhost, with real agents in containers."""

__version__ = "0.2.1"
