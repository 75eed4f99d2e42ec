"""The texts that OpenClaw writes into prompts, and the markers that cross OpenClaw."""
