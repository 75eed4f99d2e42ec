"""Recordings: model calls and their answers in files, to be replayed."""
