"""Quantised checkpoints as other tools store them, loaded as models of the course. Chapter 10."""
