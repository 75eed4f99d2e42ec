"""The OpenClaw configuration of an instance: creation, validation, changes."""
