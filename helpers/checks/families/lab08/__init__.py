"""Lab 8, scheduling: what each exercise allows, the right results, and wrong answers that have a name."""
