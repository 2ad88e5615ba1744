"""Model names -> a loaded engine with its labels and preprocessing."""
