"""What every layer may use: domain types, errors, settings, events, secrets."""
