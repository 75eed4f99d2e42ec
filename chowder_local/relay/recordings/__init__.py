"""Recordings: model calls and their answers, kept in files to be answered from again."""
