r"""Measurements that are not packaged: run by ``make bench``."""
