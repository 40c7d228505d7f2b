"""What a model sees on sample texts, and how that makes rounding cost less: smoothing, GPTQ, AWQ."""
