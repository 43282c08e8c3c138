"""Keeps the messages of image libraries off the terminal.

libjpeg, libpng and libtiff write to file descriptor 2 about each damaged image, beneath Python and
TensorFlow's log levels. Damaged images are listed in unreadable.tsv instead.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

# Beginnings of libjpeg's messages (jerror.h), and the names that libpng and libtiff begin with.
_MESSAGES = (
    r"Input file read error|Corrupt JPEG data|"
    r"Premature end of JPEG|Not a JPEG file|Empty JPEG image|Bogus |"
    r"Improper call to JPEG library|Unsupported (JPEG|marker|color)|Inconsistent progression|"
    r"Invalid (JPEG|SOS|progressive|component|memory|crop)|Unknown Adobe color|"
    r"(Huffman|Quantization|Arithmetic) table 0x|Missing Huffman|Maximum supported image|"
    r"Sampling factors|Too many color components|Warning: (unknown JFIF|thumbnail)|"
    r"(D(HT|AC|QT)|Component) index|Fractional sampling|IDCT output|Application transferred|"
    r"Unexpected progressive|libpng (warning|error)|_?TIFF\w+: "
)
_FILTER = """
import re, sys
dropped = re.compile(sys.argv[1].encode())
for line in sys.stdin.buffer:
    if not dropped.match(line):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


@contextlib.contextmanager
def dropped() -> Iterator[None]:
    """Passes file descriptor 2 through a process that drops the image libraries' lines.

    A process, not a thread, since it outlives an abort whose reason must be seen.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    # A session of its own, so that Ctrl-C does not end it before the last line.
    with subprocess.Popen(
        [sys.executable, "-ISc", _FILTER, _MESSAGES],
        stdin=subprocess.PIPE,
        stderr=kept,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        os.dup2(process.stdin.fileno(), 2)
        process.stdin.close()
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)  # closes the pipe, which ends the process
            os.close(kept)
