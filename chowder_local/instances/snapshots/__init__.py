"""Snapshots of agents, and what is made from them: forks, restores, archives."""
