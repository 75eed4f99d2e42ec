"""Snapshots of agents, and forks, restores and exports from them."""
