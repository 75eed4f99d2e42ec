"""The dashboard: pages that show what agents do, and why, to whoever has an organization's key."""
