"""Handlers of what only the local server has."""
