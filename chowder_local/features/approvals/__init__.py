"""Approvals: commands of agents that wait until somebody lets them run."""
