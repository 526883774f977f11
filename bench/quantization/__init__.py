"""What int8 weights cost and gain: speed, size and perplexity against float32, on the same graphs otherwise."""
