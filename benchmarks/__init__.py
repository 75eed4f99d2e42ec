"""Measures this server and what it is to be compared with, alternately, in one run."""
