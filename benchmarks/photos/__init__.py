r"""Photographs: classifiers on a frozen ImageNet network, with images that learned motions have moved."""
