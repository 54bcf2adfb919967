r"""Integrations with other frameworks. Import each module separately."""
