"""Code for every layer: domain types, errors, settings, events, secrets."""
