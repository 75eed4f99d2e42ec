"""Outgoing HTTP: streamed requests, headers and server-sent events."""
