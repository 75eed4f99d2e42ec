"""From the Responses API to OpenClaw's gateway and back (pure)."""
