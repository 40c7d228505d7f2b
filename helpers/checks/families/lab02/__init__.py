"""Lab 2, prefill/decode profiling: what each exercise allows, the right results, and wrong answers that have a name."""
