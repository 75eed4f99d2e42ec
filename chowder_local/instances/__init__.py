"""Instances: lifecycle, configuration, conversations, snapshots, warm pool, monitoring."""
