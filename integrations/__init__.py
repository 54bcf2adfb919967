r"""Bridges to other frameworks, each imported on its own so that the package needs none of them."""
