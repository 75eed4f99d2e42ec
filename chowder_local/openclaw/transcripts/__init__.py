"""Reads conversations from OpenClaw's database in an agent's home."""
