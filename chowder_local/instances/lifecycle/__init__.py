"""The life of an instance: create, boot, stop, start, delete, and recovery."""
