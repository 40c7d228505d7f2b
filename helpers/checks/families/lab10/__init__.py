"""Lab 10, quantisation: what each exercise allows, the right results, and wrong answers that have a name."""
