"""Brings a server to the state that a seed file declares."""
