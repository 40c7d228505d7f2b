"""Lab 12, serving: what each exercise allows, its reference, and wrong answers that have a name."""
