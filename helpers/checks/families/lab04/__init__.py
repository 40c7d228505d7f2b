"""Lab 4, prefix reuse: what each exercise allows, the right results, and wrong answers that have a name."""
