"""Lab 5, continuous batching: what each exercise allows, the right results, and wrong answers that have a name."""
