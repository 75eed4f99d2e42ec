"""Measures this server and its peers alternately, in one run."""
