"""The composition of a server from its parts, and the process that runs it."""
