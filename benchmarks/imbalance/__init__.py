r"""Long-tailed training sets, and what a classifier gains by synthetic images beside every other remedy."""
