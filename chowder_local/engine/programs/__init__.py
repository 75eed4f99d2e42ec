"""Programs that the engine runs in sandboxes: they know nothing of this package."""
