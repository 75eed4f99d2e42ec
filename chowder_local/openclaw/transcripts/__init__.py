"""Conversations as OpenClaw keeps them, read from an agent's home."""
