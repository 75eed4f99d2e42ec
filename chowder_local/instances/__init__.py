"""An instance's life: provisioning, states, conversations, reconciling with the engine."""
