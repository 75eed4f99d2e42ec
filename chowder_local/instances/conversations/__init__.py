"""Messages to agents, and the records of their conversations."""
