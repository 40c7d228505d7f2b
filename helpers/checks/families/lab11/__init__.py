"""Lab 11, parallelism: what each exercise allows, the right results, and wrong answers that have a name."""
