"""Run a command that cannot outlive the program that started it.

`python leash.py COMMAND...` becomes the command. When its parent ends, however that happens, Linux sends it
SIGTERM. This is a program of its own because `preexec_fn` may deadlock beside threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background of a shell
    os.execvp(sys.argv[1], sys.argv[1:])
