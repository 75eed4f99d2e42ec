"""The server's application, and the process that runs it."""
