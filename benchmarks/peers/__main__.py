"""Do the tasks of one peer: ``python -m benchmarks.peers NAME FD``; requests on standard input, answers to the FD.

Both are JSON, a line each.
"""

import gc
import json
import os
import sys

from benchmarks.peers import get_peer
from benchmarks.request import Request
from benchmarks.tasks import answer


def main() -> None:
    name, descriptor = sys.argv[1:]
    peer = get_peer(name)
    os.set_inheritable(int(descriptor), False)
    with os.fdopen(int(descriptor), "w") as answers:
        for line in sys.stdin:
            try:
                answered = answer(peer, Request.from_json(line))
            except Exception as error:  # noqa: BLE001 (whatever a library raises is its peer's failure)
                answered = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answered) + "\n")
            answers.flush()
            gc.collect()  # workers that live on end with their loader: not in the next one's time


if __name__ == "__main__":
    main()
