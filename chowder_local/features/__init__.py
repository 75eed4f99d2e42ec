"""Capabilities beside the kernel, a folder each."""
