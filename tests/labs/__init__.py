"""Known right and wrong answers to every exercise."""
