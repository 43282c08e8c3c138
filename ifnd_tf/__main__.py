"""`python -m ifnd_tf`: the command line."""

import sys

from ifnd_tf.command_line import main

if __name__ == "__main__":
    sys.exit(main())
