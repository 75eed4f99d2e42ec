"""Programs that the engine runs in sandboxes; they import nothing of this package."""
