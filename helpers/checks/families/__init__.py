"""What each exercise allows: cases, right results, and wrong answers that have a name; one package per lab."""
