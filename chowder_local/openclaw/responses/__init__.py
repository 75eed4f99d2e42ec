"""Translates between the Responses API and OpenClaw's gateway (pure)."""
