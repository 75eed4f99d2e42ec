"""Messages to agents, and the record of their conversations."""
