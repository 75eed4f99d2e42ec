"""Trials: the same case several times, each on a fork of one state, and a verdict on them all."""
