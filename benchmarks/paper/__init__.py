r"""The experiments of the generative autoencoder's paper, done again: ``python -m benchmarks.paper``."""
