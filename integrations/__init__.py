r"""Integrations with other frameworks. Import each one separately: the package itself needs none of them."""
