"""What every test process needs before its first test."""

import signal

# A shell that starts the tests in its background has them ignore Ctrl-C, and their children too;
# the tests that interrupt a program need the ordinary disposition.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
