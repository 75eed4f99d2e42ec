"""What an agent is: its configuration, gateway, sessions and messages."""
