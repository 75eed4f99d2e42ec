"""Warm sandboxes: booted before anybody asks, and given to the next instance."""
