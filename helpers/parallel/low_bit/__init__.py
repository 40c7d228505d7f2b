"""Quantised weights and activations over tensor-parallel ranks: the codes of one process, each rank its own slices. Chapter 11."""
