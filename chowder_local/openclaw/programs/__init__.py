"""Programs that the server runs inside sandboxes; their text travels with each call."""
