"""Kill a random process of a job at a random moment, start the job again at once, in the same cache; over and over.

    python -m benchmarks.kills --kills 200
    python -m benchmarks.kills --kills 200 --cache-limit 400kb

The job is 2 ranks with 2 workers each, forked by a StreamingDataLoader; its remote is served over HTTP. (With torch's
own loader, which makes a name under /dev/shm for every tensor, a kill may leave one.) After each kill the rest of the
job is killed, too, as a launcher would do it, and the next one goes on from the last checkpoint.

An epoch that nobody disturbs says first which samples each rank has to see, in which order. Of every start it is then
seen to that it begins in time; that no process fails by itself; that every sample is what was written; that each rank
sees exactly what the undisturbed one saw from the checkpoint on; that what the killed left among the temporary files is
gone once the next start has given out a batch; and that the directory never holds more than the limit. In the end an
epoch is read from its beginning to its end, and no temporary file and nothing under /dev/shm may be left. Where the
system allows it, the run has a /dev/shm of its own, so that what else runs on the machine is not seen there.
"""

import argparse
import contextlib
import json
import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from arrowstream import MDSWriter
from arrowstream.cache.names import BATCHES, TEMPORARY
from arrowstream.cache.reservations import SUFFIX
from arrowstream.plan.window import SHUFFLE_UNITS
from arrowstream.units import parse_bytes
from tests.reading.http_server import serve

RANKS = 2
WORKERS = 2
BATCH_SIZE = 8
DEADLINE_S = 120.0
#: Set in the environment of a run that has a /dev/shm of its own.
ALONE = "ARROWSTREAM_KILLS_ALONE"

JOB = """
import json, os, sys
from pathlib import Path
from arrowstream.loader import StreamingDataLoader
from arrowstream.torch import StreamingDataset
from benchmarks.kills import BATCH_SIZE, RANKS, WORKERS, text_of

remote, cache, resume, checkpoint, seen, limit, unit = sys.argv[1:]
dataset = StreamingDataset(
    remote=remote, local=cache, shuffle=True, shuffle_block_size=64, num_canonical_nodes=2, batch_size=BATCH_SIZE,
    cache_limit=limit or None, shuffle_unit=unit,
)
state = Path(checkpoint)
start = 0
if Path(resume).exists():
    saved = json.loads(Path(resume).read_text())
    dataset.load_state_dict(saved)
    start = saved["sample_in_epoch"]
loader = StreamingDataLoader(dataset, batch_size=BATCH_SIZE, num_workers=WORKERS, multiprocessing_context="fork")
rank = int(os.environ["RANK"])
print("begun", flush=True)
with open(f"{seen}.{rank}", "w") as log:
    for step, batch in enumerate(loader, 1):
        numbers = batch["id"].tolist()
        for number, text in zip(numbers, batch["text"], strict=True):
            assert text == text_of(number, unit), f"sample {number} is wrong: {text!r}"
        print(json.dumps(numbers), file=log, flush=True)
        if rank == 0 and step % 5 == 0:
            saved = dataset.state_dict(min(start + step * BATCH_SIZE * RANKS, dataset.size))
            unfinished = state.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(saved))
            unfinished.replace(state)
        if step == 1:
            print("first", flush=True)
print("done", flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is killed.

    Attributes:
        num_kills: How often.
        num_samples: Of the dataset.
        cache_limit: As a user would give it; "": none.
        unit: What is fetched at once.
        seed: Of chance.
    """

    num_kills: int
    num_samples: int
    cache_limit: str = ""
    unit: str = "shard"
    seed: int = 1


@dataclass(slots=True, kw_only=True)
class Summary:
    """What was seen; everything that must not be ends the run with an error instead.

    Attributes:
        num_kills: Processes that were killed.
        num_compared: Samples that ranks saw before they were killed, each the one that had to come there.
        num_finished: Starts that had come to the epoch's end by then; the next one begins another epoch.
        num_left: Temporary files that killed processes left; the next start deleted them.
        last_epoch: Ids of all ranks in the epoch that nobody disturbed in the end.
        left: Names that remain among the temporary files.
    """

    num_kills: int = 0
    num_compared: int = 0
    num_finished: int = 0
    num_left: int = 0
    last_epoch: tuple[int, ...] = ()
    left: tuple[str, ...] = ()


class KilledJobError(Exception):
    """A job that was killed did not go on as it must."""


def text_of(number: int, unit: str) -> str:
    """Give what stands in a sample; a record batch is about 1 MiB."""
    return f"{number:06d} " * ((20 + number % 30) * (1 if unit == "shard" else 80))


def write(out: Path, settings: Settings) -> None:
    """Write the dataset; where record batches are fetched, with several in each shard."""
    size_limit = (16 << 10) if settings.unit == "shard" else (8 << 20)
    with MDSWriter(out=out, columns={"id": "int", "text": "str"}, size_limit=size_limit) as writer:
        for number in range(settings.num_samples):
            writer.write({"id": number, "text": text_of(number, settings.unit)})


class Job:
    """The processes of one start of the job.

    Args:
        remote: URL of the data.
        folder: Where the logs of what was seen go, and the checkpoint.
        cache: The cache.
        settings: Of the run.
    """

    def __init__(self, remote: str, folder: Path, cache: Path, settings: Settings) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end())
        self._seen = folder / "seen"
        for rank in range(RANKS):
            self._log(rank).unlink(missing_ok=True)
        # What all ranks begin with; the first may write another checkpoint before the last has read this one.
        resume, checkpoint = folder / "resume", folder / "state"
        resume.unlink(missing_ok=True)
        if checkpoint.exists():
            shutil.copyfile(checkpoint, resume)
        paths = [str(cache), str(resume), str(checkpoint), str(self._seen)]
        self.ranks = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", JOB, remote, *paths, settings.cache_limit, settings.unit],
                env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)},
                stdout=subprocess.PIPE,
                stderr=self.errors,
                start_new_session=True,
            )
            for rank in range(RANKS)
        ]

    def _log(self, rank: int) -> Path:
        return self._seen.with_suffix(f".{rank}")

    def wait_until(self, said: str) -> None:
        """Wait until every rank has said something, no longer than the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        for rank in self.ranks:
            assert rank.stdout is not None
            heard = b""
            with selectors.DefaultSelector() as selector:
                selector.register(rank.stdout, selectors.EVENT_READ)
                while len(heard) <= len(said):  # and the end of the line
                    if not selector.select(deadline - time.monotonic()):
                        self.fail(f"a rank has not said {said!r} after {DEADLINE_S:.0f} s")
                    more = os.read(rank.stdout.fileno(), len(said) + 1 - len(heard))
                    if not more:
                        self.fail(f"a rank has ended before it said {said!r}")
                    heard += more

    def processes(self) -> list[int]:
        """Find the ranks and their workers."""
        found = [rank.pid for rank in self.ranks]
        for rank in self.ranks:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, Path(f"/proc/{rank.pid}/task/{rank.pid}/children").read_text().split())
        return found

    def kill(self, victim: int) -> None:
        """Kill one process, then the rest."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """Kill whoever lives, and see to it that no sample was wrong until then."""
        for rank in self.ranks:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(rank.pid, signal.SIGKILL)
            rank.wait()
            if rank.stdout is not None:
                rank.stdout.close()
        if not self.errors.closed:
            self.errors.seek(0)
            said = self.errors.read().decode()
            self.errors.close()
            if " is wrong: " in said:
                raise KilledJobError(said[-4000:])

    def check(self) -> None:
        """See to it that nobody has failed on his own so far."""
        for rank in self.ranks:
            if rank.poll() not in (None, 0):
                self.fail(f"a rank ended with {rank.returncode}")

    def finish(self) -> None:
        """Read the epoch to its end."""
        deadline = time.monotonic() + DEADLINE_S
        for rank in self.ranks:
            try:
                code = rank.wait(deadline - time.monotonic())
            except subprocess.TimeoutExpired:
                self.fail(f"a rank has not ended after {DEADLINE_S:.0f} s")
            if code:
                self.fail(f"a rank ended with {code}")
        self.end()

    def seen(self) -> list[list[int]]:
        """Give the ids that each rank has seen."""
        found = []
        for rank in range(RANKS):
            try:
                lines = self._log(rank).read_text().splitlines(keepends=True)
            except FileNotFoundError:
                lines = []
            whole = [line for line in lines if line.endswith("\n")]  # the last may have been cut off
            found.append([number for line in whole for number in json.loads(line)])
        return found

    def fail(self, what: str) -> None:
        """End the run, with what the job said."""
        self.errors.seek(0)
        said = self.errors.read().decode()[-4000:]
        self.end()
        raise KilledJobError(f"{what}:\n{said}")


class Run:
    """One cache in which jobs are killed.

    Args:
        settings: Of the run.
        folder: For all that lies on the disk.
        remote: URL of the data.
    """

    def __init__(self, settings: Settings, folder: Path, remote: str) -> None:
        self.settings = settings
        self.summary = Summary()
        self._folder, self._remote, self._cache = folder, remote, folder / "cache"
        self._chance = random.Random(settings.seed)
        self._order: list[list[int]] = []
        self._job: Job

    def begin(self) -> None:
        """Let an epoch that nobody disturbs say what has to be seen."""
        undisturbed = self._start(self._folder / "undisturbed")
        undisturbed.finish()
        self._order = undisturbed.seen()
        (self._folder / "state").unlink()
        if {number for rank in self._order for number in rank} != set(range(self.settings.num_samples)):
            raise KilledJobError("the epoch that nobody disturbs is not whole")

    def _start(self, cache: Path) -> Job:
        self._job = Job(self._remote, self._folder, cache, self.settings)
        return self._job

    def end(self) -> None:
        """Leave no process behind."""
        self._job.end()

    def kill_one(self) -> None:
        """Start a job and kill it."""
        chance, checkpoint = self._chance, self._folder / "state"
        if chance.random() < 0.2:  # so that there is something to fetch
            for path in [*self._cache.glob("shard.*"), *self._cache.glob(f"{BATCHES}/*/*")]:
                path.unlink(missing_ok=True)
        left = self._temporaries()
        begin = json.loads(checkpoint.read_text())["sample_in_epoch"] if checkpoint.exists() else 0
        job = self._start(self._cache)
        phase = chance.random()
        if phase < 0.9:
            job.wait_until("begun")
        if phase < 0.6:
            job.wait_until("first")
        time.sleep(chance.random() * 0.5)
        job.check()
        job.kill(chance.choice(job.processes()))
        self._compare(job.seen(), begin, whole=False)
        finished = all(
            begin // RANKS + len(found) == len(order) for found, order in zip(job.seen(), self._order, strict=True)
        )
        if phase < 0.6 and left & self._temporaries():
            raise KilledJobError(f"a start left what was there before: {sorted(left & self._temporaries())}")
        self._measure()
        if finished:
            checkpoint.unlink(missing_ok=True)
        self.summary.num_kills += 1
        self.summary.num_finished += finished
        self.summary.num_left += len(self._temporaries())

    def finish(self) -> Summary:
        """Read an epoch from its beginning to its end."""
        (self._folder / "state").unlink(missing_ok=True)
        last = self._start(self._cache)
        last.finish()
        self._compare(last.seen(), 0, whole=True)
        self._measure()
        self.summary.last_epoch = tuple(number for rank in last.seen() for number in rank)
        self.summary.left = tuple(sorted(self._temporaries()))
        return self.summary

    def _compare(self, seen: list[list[int]], begin: int, *, whole: bool) -> None:
        for rank, (found, order) in enumerate(zip(seen, self._order, strict=True)):
            expected = order[begin // RANKS :]
            if found != (expected if whole else expected[: len(found)]):
                raise KilledJobError(f"rank {rank} did not go on in the order of the epoch from {begin}: {found[:20]}")
            self.summary.num_compared += len(found)

    def _temporaries(self) -> set[str]:
        folder = self._cache / TEMPORARY
        return set(os.listdir(folder)) if folder.is_dir() else set()

    def _measure(self) -> None:
        if self.settings.cache_limit:
            # A reservation has a length and holds nothing.
            paths = (path for path in self._cache.rglob("*") if path.is_file() and path.suffix != SUFFIX)
            used = sum(path.stat().st_size for path in paths)
            if used > parse_bytes(self.settings.cache_limit):
                raise KilledJobError(f"the cache holds {used} bytes, the limit is {self.settings.cache_limit}")


def run(settings: Settings) -> Summary:
    """Kill so often, then finish.

    Raises:
        KilledJobError: A job did not go on as it must.
    """
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write(folder / "remote", settings)
        with serve(folder / "remote") as server:
            server.http.handle_error = lambda *_: None  # the killed hang up
            killing = Run(settings, folder, server.url)
            try:
                killing.begin()
                for number in range(1, settings.num_kills + 1):
                    killing.kill_one()
                    if number % 20 == 0:
                        print(killing.summary, flush=True)
                return killing.finish()
            finally:
                killing.end()


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--cache-limit", default="")
    parser.add_argument("--unit", choices=SHUFFLE_UNITS, default="shard")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if ALONE not in os.environ:
        _go_apart()
    before = set(os.listdir("/dev/shm"))
    settings = Settings(
        num_kills=arguments.kills,
        num_samples=arguments.samples,
        cache_limit=arguments.cache_limit,
        unit=arguments.unit,
        seed=arguments.seed,
    )
    summary = run(settings)
    if set(summary.last_epoch) != set(range(settings.num_samples)) or summary.left:
        raise SystemExit(f"the last epoch is not whole, or files were left: {summary.left}")
    shared = set(os.listdir("/dev/shm")) - before
    if shared:
        raise SystemExit(f"names were left in /dev/shm: {sorted(shared)}")
    shares = "" if os.environ.get(ALONE) == "yes" else ", which others share"
    print(
        f"{summary.num_kills} kills: every start went on; {summary.num_compared} samples were right, each in its "
        f"place; {summary.num_finished} starts came to the epoch's end; {summary.num_left} temporary files were left "
        f"and swept; nothing new in /dev/shm{shares}"
    )


def _go_apart() -> None:
    """Begin again with a /dev/shm of one's own, where that is allowed."""
    apart = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh"]
    with contextlib.suppress(FileNotFoundError):
        allowed = subprocess.run([*apart, "true"], check=False, capture_output=True).returncode == 0
        if allowed:
            again = [sys.executable, "-m", "benchmarks.kills", *sys.argv[1:]]
            os.execvpe(apart[0], [*apart, *again], {**os.environ, ALONE: "yes"})
    os.environ[ALONE] = "no"


if __name__ == "__main__":
    main()
