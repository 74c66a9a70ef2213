"""Sparsity with its whole price: storage of indices, selects and registers, detection, imbalance."""
