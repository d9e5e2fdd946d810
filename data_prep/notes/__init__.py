"""Rows of notes out of CSV, Parquet and databases.

Stands on common.
"""
