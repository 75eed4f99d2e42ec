"""The OpenClaw configuration of an instance: the first one, edits, validation."""
