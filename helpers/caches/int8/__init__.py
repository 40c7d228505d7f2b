"""Caches that keep keys and values in 8 bits, one scale for each token and head. Chapter 10."""
