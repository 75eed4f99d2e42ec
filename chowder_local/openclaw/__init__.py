"""OpenClaw, which runs in every sandbox: its configuration, gateway, sessions and messages."""
