"""Files of every kind that the programs read, damaged at random with a fixed seed.

A reader must give what it gives of the sound file, or raise a `UserError` that names the file;
where a format has no checksum it may also give something else. Never another exception, never more
than a gigabyte.

    python -m tests.damaged [--mutations 3000] [--seed 1] [--only csv]

`formats` says how a file of each kind is made and read, `mutations` what is done to it.
"""
