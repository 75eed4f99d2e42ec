"""OpenClaw's configuration document: what it says, edits, its schema (pure)."""
