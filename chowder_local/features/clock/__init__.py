"""Clock: the time of an agent, which can be set, stand still, and be moved on."""
