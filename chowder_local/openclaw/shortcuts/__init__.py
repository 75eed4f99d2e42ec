"""Uses of OpenClaw's inside: what each leans on, whether it fits, and what is done without it."""
