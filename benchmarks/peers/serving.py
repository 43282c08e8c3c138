"""The peer's end of `benchmarks.peer`: one call a line in, one result a line out."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def serve(*functions: Callable[..., Any]) -> None:
    """Answers calls of `functions` by name until the input ends."""
    known = {function.__name__: function for function in functions}
    # What libraries print goes to standard error: the answers' channel is for results alone.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(known[name](**arguments)), file=answers, flush=True)
