"""Bringing a server to what a seed file declares."""
