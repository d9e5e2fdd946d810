"""Sections to sentences, by spaCy or by rules.

Stands on common.
"""
