"""Watching instances: health, memory and processor time, disk use."""
