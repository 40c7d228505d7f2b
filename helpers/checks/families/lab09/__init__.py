"""Lab 9, operator fusion and graphs: what each exercise allows, the right results, and wrong answers that have a name."""
