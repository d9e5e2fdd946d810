"""Notes to pretraining text: selection, duplicates, text files, manifest and report.

Stands on notes, sentences, sectioning and common.
"""
