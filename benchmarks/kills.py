"""Kill a random process of a job at a random moment, start the job again at once, in the same cache; over and over.

    python -m benchmarks.kills --kills 200
    python -m benchmarks.kills --kills 200 --cache-limit 400kb

The job is 2 ranks with 2 workers each, forked by torch's loader; its remote is served over HTTP. After each kill the
rest of the job is killed, too, as a launcher would do it, and the next one goes on from the last checkpoint. Every
sample is compared with what was written. In the end an epoch is read to its end, and nothing may be left: no temporary
file, nothing in /dev/shm.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arrowstream import MDSWriter
from arrowstream.cache.names import BATCHES
from arrowstream.index import PRIVATE_FOLDER
from arrowstream.plan.window import SHUFFLE_UNITS
from tests.reading.http_server import serve

RANKS = 2
WORKERS = 2
BATCH_SIZE = 8
DEADLINE_S = 120.0

JOB = """
import json, os, sys
from pathlib import Path
from torch.utils.data import DataLoader
from arrowstream.torch import StreamingDataset
from benchmarks.kills import BATCH_SIZE, RANKS, WORKERS, text_of

remote, cache, checkpoint, limit, unit = sys.argv[1:]
dataset = StreamingDataset(
    remote=remote, local=cache, shuffle=True, shuffle_block_size=64, num_canonical_nodes=2, batch_size=BATCH_SIZE,
    cache_limit=limit or None, shuffle_unit=unit,
)
state = Path(checkpoint)
start = 0
if state.exists():
    saved = json.loads(state.read_text())
    dataset.load_state_dict(saved)
    start = saved["sample_in_epoch"]
loader = DataLoader(dataset, batch_size=BATCH_SIZE, num_workers=WORKERS, multiprocessing_context="fork")
rank = int(os.environ["RANK"])
print("begun", flush=True)
seen = []
for step, batch in enumerate(loader, 1):
    for number, text in zip(batch["id"].tolist(), batch["text"], strict=True):
        assert text == text_of(number), f"sample {number} is wrong: {text!r}"
        seen.append(number)
    if rank == 0 and step % 5 == 0:
        saved = dataset.state_dict(min(start + step * BATCH_SIZE * RANKS, dataset.size))
        unfinished = state.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(saved))
        unfinished.replace(state)
print("seen", json.dumps(seen), flush=True)
"""


def text_of(number: int) -> str:
    """Give what stands in a sample."""
    return f"{number:06d} " * (20 + number % 30)


def write(out: Path, num_samples: int) -> None:
    with MDSWriter(out=out, columns={"id": "int", "text": "str"}, size_limit=16 << 10) as writer:
        for number in range(num_samples):
            writer.write({"id": number, "text": text_of(number)})


class Job:
    """The processes of one start of the job."""

    def __init__(self, remote: str, cache: Path, checkpoint: Path, limit: str, unit: str) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end())
        self.ranks = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", JOB, remote, str(cache), str(checkpoint), limit, unit],
                env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)},
                stdout=subprocess.PIPE,
                stderr=self.errors,
                start_new_session=True,
                text=True,
            )
            for rank in range(RANKS)
        ]

    def wait_until_begun(self) -> None:
        for rank in self.ranks:
            assert rank.stdout is not None
            if rank.stdout.readline().strip() != "begun":
                self.fail("a start failed")

    def processes(self) -> list[int]:
        """Find the ranks and their workers."""
        found = [rank.pid for rank in self.ranks]
        for rank in self.ranks:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, Path(f"/proc/{rank.pid}/task/{rank.pid}/children").read_text().split())
        return found

    def kill(self, victim: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        self.end()

    def end(self) -> None:
        for rank in self.ranks:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(rank.pid, signal.SIGKILL)
            rank.wait()
            assert rank.stdout is not None
            rank.stdout.close()
        self.errors.close()

    def check(self) -> None:
        """See to it that nobody has failed on his own so far."""
        for rank in self.ranks:
            if rank.poll() not in (None, 0):
                self.fail(f"a rank ended with {rank.returncode}")

    def finish(self) -> list[int]:
        """Read the epoch to its end.

        Returns:
            The ids that all ranks have seen.
        """
        seen: list[int] = []
        for rank in self.ranks:
            said = rank.communicate(timeout=DEADLINE_S)[0].splitlines()
            if rank.returncode or not said[-1].startswith("seen "):
                self.fail(f"a rank ended with {rank.returncode}")
            seen += json.loads(said[-1].removeprefix("seen "))
        self.end()
        return seen

    def fail(self, what: str) -> None:
        self.errors.seek(0)
        said = self.errors.read().decode()[-4000:]
        self.end()
        raise SystemExit(f"{what}:\n{said}")


def run(num_kills: int, num_samples: int, limit: str, seed: int, unit: str = "shard") -> None:
    """Kill so often, then finish; ends the program with what went wrong, if anything does."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        remote, cache, checkpoint = Path(folder, "remote"), Path(folder, "cache"), Path(folder, "state")
        write(remote, num_samples)
        with serve(remote) as server:
            server.http.handle_error = lambda *_: None  # the killed hang up
            finished = 0
            for number in range(num_kills):
                if chance.random() < 0.2:  # so that there is something to fetch
                    for path in [*cache.glob("shard.*"), *cache.glob(f"{BATCHES}/*/*")]:
                        path.unlink(missing_ok=True)
                job = Job(server.url, cache, checkpoint, limit, unit)
                if chance.random() < 0.9:
                    job.wait_until_begun()
                time.sleep(chance.random() * 0.5)
                job.check()
                finished += all(rank.poll() == 0 for rank in job.ranks)
                job.kill(chance.choice(job.processes()))
                if (number + 1) % 20 == 0:
                    print(f"{number + 1} kills, {finished} of the jobs had finished by then", flush=True)
            checkpoint.unlink(missing_ok=True)
            last = Job(server.url, cache, checkpoint, limit, unit)
            last.wait_until_begun()
            seen = last.finish()
            if set(seen) != set(range(num_samples)):
                raise SystemExit(f"the last epoch has {len(set(seen))} of {num_samples} samples")
        left = list((cache / PRIVATE_FOLDER / "tmp").iterdir())
        if left:
            raise SystemExit(f"temporary files were left: {left}")
    print(f"{num_kills} kills: every start went on, all samples right, no temporary file")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--cache-limit", default="")
    parser.add_argument("--unit", choices=SHUFFLE_UNITS, default="shard")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    before = set(os.listdir("/dev/shm"))
    run(arguments.kills, arguments.samples, arguments.cache_limit, arguments.seed, arguments.unit)
    # Whose a name is cannot be told: whatever else runs on the machine must be left out of this by its user.
    shared = set(os.listdir("/dev/shm")) - before
    if shared:
        raise SystemExit(f"names were left in /dev/shm, by this or by another program: {sorted(shared)}")
    print("nothing new in /dev/shm")


if __name__ == "__main__":
    main()
