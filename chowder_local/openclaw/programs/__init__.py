"""Programs that the server runs inside sandboxes; each call sends the program's text."""
