"""The model relay: sandboxes call models through it and never see a model key."""
