"""A server whose sandboxes run on several machines, which Docker Swarm joins."""
