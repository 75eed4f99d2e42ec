"""Handlers of the route table's operations, by subject; each has its operation's name."""
