"""Lab 1, memory math: what each exercise allows, the right results, and wrong answers that have a name."""
