"""Made-up notes in the columns of NOTEEVENTS.

Stands on common.
"""
