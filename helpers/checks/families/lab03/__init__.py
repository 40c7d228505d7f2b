"""Lab 3, KV cache: what each exercise allows, the right results, and wrong answers that have a name."""
