"""Keyword models of others: what their files do not say."""
