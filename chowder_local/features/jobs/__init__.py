"""Jobs: what agents do on a schedule, and what has come of it."""
