"""Organizations, API keys, model keys, and permissions."""
