"""Lab 7, flash attention: what each exercise allows, the right results, and wrong answers that have a name."""
