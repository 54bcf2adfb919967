r"""Integrations with other frameworks.

Import each module separately. The package itself imports no framework.
"""
