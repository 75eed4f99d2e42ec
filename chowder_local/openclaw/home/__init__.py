"""Agents' homes as archives: checked, sanitized, and moved between sandboxes."""
