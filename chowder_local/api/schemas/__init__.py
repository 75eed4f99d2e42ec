"""What is taken, with its bounds, and what is answered: one module a subject."""
