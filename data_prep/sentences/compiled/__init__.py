"""spaCy's parser computed by compiled code; reads private modules of spaCy.

Only the splitter imports it.
"""
