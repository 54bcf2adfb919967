r"""Integrations with other frameworks. Each is imported on its own, so that the package itself needs none of them."""
