"""Webhooks: those that agents get by OpenClaw's hooks, and those that they send to an inbox."""
