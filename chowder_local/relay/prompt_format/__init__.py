"""What OpenClaw writes into prompts, and what we write into them across OpenClaw."""
