"""What all checks share: what a check is, calling a learner's code, the record of progress, references of several labs."""
