"""What every program shares: errors, flags, files, workers, progress, pages.

Imports nothing of this project.
"""
