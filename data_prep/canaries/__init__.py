"""Made-up sentences with a random secret, planted in pretraining text to be looked for later.

Imports `common` alone.
"""
