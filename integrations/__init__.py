r"""Integrations with other frameworks. Import each module separately: the package itself needs no framework."""
