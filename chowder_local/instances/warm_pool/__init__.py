"""Warm sandboxes: booted in advance, and claimed by new instances."""
