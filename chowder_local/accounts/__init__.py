"""Organizations, their keys and who may do what."""
