"""Scripted replies: rules for the offline model's answers in tests."""
