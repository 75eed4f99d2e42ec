"""Agents' homes as archives: checked, cleaned, and moved between sandboxes."""
