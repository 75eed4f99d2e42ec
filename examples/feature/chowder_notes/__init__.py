"""Notes about agents."""
