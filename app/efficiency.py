"""python -m app.efficiency has become python -m evaluate efficiency, which this starts."""

import os
import sys

if __name__ == "__main__":
    command = [sys.executable, "-m", "evaluate", "efficiency", *sys.argv[1:]]
    os.execv(sys.executable, command)
