"""Run one task of one peer: ``python -m benchmarks.peers NAME REQUEST``; the answer is the last line printed, JSON."""

import json
import sys

from benchmarks.peers import get_peer
from benchmarks.request import Request
from benchmarks.tasks import answer


def main() -> None:
    name, request = sys.argv[1:]
    print(json.dumps(answer(get_peer(name), Request.from_json(request))), flush=True)


if __name__ == "__main__":
    main()
