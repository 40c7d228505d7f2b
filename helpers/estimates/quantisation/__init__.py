"""Quantised weights: which a scheme packs, and the bytes of a packed matrix with its scales."""
