"""Scripted replies: what the offline model says instead, as a test tells it."""
