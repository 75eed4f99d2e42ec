"""Breakpoints: model calls that are held until somebody lets them go on."""
