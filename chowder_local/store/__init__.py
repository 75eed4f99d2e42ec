"""SQLite: the truth about organizations, keys and instances."""
