"""Where a dataset stands: its order, the epoch that comes next, checkpoints, and which process this is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from arrowstream.cursor import Cursor
from arrowstream.epochs import EpochCounter
from arrowstream.plan.epoch_plan import EpochPlan
from arrowstream.plan.laid_out import LaidOutPlan
from arrowstream.plan.state import Position, read_skipped, read_state, write_state
from arrowstream.plan.view import PlanView, skipping
from arrowstream.world import World


class Resumable(ABC):
    """Goes through epochs of a plan, and goes on in the middle of one.

    Args:
        batch_size: Samples of a batch on one rank.
        replication: Consecutive ranks that read the same samples.
        rank: Of this process; None: as torch.distributed or the launcher has it.
        world_size: Goes with ``rank``.
    """

    def __init__(
        self, *, batch_size: int | None, replication: int | None, rank: int | None, world_size: int | None
    ) -> None:
        self.batch_size = batch_size
        self.replication = replication
        self.rank = rank
        self.world_size = world_size
        self._counter = EpochCounter()
        self._plan: EpochPlan | None = None
        self._adopted: dict[str, Any] = {}  # the state that was loaded: it decides what a plan leaves open
        self._cursor: Cursor | None = None
        self._resumed: Position | None = None  # of this process alone: a worker whose state was loaded

    @abstractmethod
    def _choose_plan(self) -> EpochPlan:
        """Make the order that the arguments ask for."""

    @abstractmethod
    def _fingerprint(self) -> str:
        """Say what identifies the samples and their ids."""

    # The order -------------------------------------------------------------------------------------------------------

    @property
    def next_epoch(self) -> int:
        """The epoch that the next iteration will be, from 0; known to the copies in worker processes as well."""
        return self._epochs.upcoming[0]

    @next_epoch.setter
    def next_epoch(self, epoch: int) -> None:
        self._epochs.upcoming = (epoch, 0)

    def _make_plan(self) -> EpochPlan:
        if self._plan is None:
            plan = self._choose_plan()
            self._plan = plan.adopt(self._adopted) if self._adopted else plan
        return self._plan

    def _current_plan(self) -> EpochPlan:
        return self._make_plan().skipping(self._epochs.skipped)

    def plan(self, epoch: int | None = None, *, world: World | None = None) -> PlanView:
        """Give the order of an epoch, to be asked which samples it has where.

        Args:
            epoch: From 0; None: the one that comes next.
            world: The job that reads it; None: the one that this process belongs to.

        Raises:
            ValueError: The epoch is negative, or the order does not go with the job.
        """
        epoch = self.next_epoch if epoch is None else epoch
        return PlanView(self._current_plan(), world or self._world(), epoch, self.batch_size)

    def skip_steps(self, start: int, stop: int, *, epoch: int | None = None) -> None:
        """Leave out steps of an epoch that has not begun, or goes on after a resume: their samples are not read.

        What comes behind them closes up: step ``start`` then is what step ``stop`` was. Checkpoints say what is left
        out, so call this after ``load_state_dict``.

        Args:
            start: The first step to leave out, as ``plan(epoch)`` counts them now, over the whole epoch.
            stop: The step behind the last one.
            epoch: From 0; None: the one that comes next.

        Raises:
            ValueError: The steps lie in the past or behind the end, or there is no batch size.
        """
        self._epochs.skipped = skipping(self._epochs.skipped, self.plan(epoch), start, stop, self._epochs.upcoming)

    def _begin_iteration(self) -> tuple[World, Cursor]:
        world, token = self._world(), self._iteration_token()
        if self.batch_size is None and world.workers_per_rank > 1:
            raise ValueError("Please pass `batch_size`: the workers of a loader need it to share out the epoch.")
        # Workers begin together and are told their epoch now; alone, an epoch begins with its first sample.
        position = None
        if token is not None:
            epoch, sample = self._epochs.claim(token, world.workers_per_rank)
            position = Position(epoch=epoch, sample=sample)
        if self._resumed is not None:
            position, self._resumed = self._resumed, None
            self._epochs.upcoming = (position.epoch + 1, 0)
        self._cursor = Cursor(position)
        return world, self._cursor

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def state_dict(
        self, num_samples: int | None = None, from_beginning: bool = True, *, epoch: int | None = None
    ) -> dict[str, Any]:
        """Say where the epoch stands, for a checkpoint.

        Args:
            num_samples: Samples that all ranks together have trained on. None: what this process has iterated over,
                for the case that it has no worker processes.
            from_beginning: Whether ``num_samples`` counts from the beginning of the epoch, or from where the last
                resume began.
            epoch: The epoch from whose beginning ``num_samples`` counts. None: the one that was begun last.

        Returns:
            A few JSON values. They mean the same for any number of nodes, ranks, workers and any batch size.

        Raises:
            ValueError: ``num_samples`` is None, and worker processes did the reading, or an epoch was named.
        """
        world, worker = self._world(), self._worker()
        if epoch is not None:
            if num_samples is None or not from_beginning:
                raise ValueError("epoch= says from whose beginning num_samples= counts; pass that too")
            return self._write_state(world, Position(epoch=epoch, sample=num_samples))
        cursor = self._cursor
        if num_samples is None and worker is not None and cursor is not None and cursor.position is not None:
            began = cursor.position
            position = Position(epoch=began.epoch, sample=began.sample, skipped=began.skipped + cursor.samples)
            return write_state(position, self._settings(), worker, self._epochs.skipped)
        begun = self._epochs.begun
        epoch, sample = begun or self._epochs.upcoming
        if num_samples is not None:
            sample = num_samples if from_beginning else sample + num_samples
        elif cursor is not None and cursor.position is None:
            epoch, sample = self._epochs.upcoming  # an iterator that nobody has asked for a sample yet
        elif begun is not None:
            if cursor is None or cursor.position is None or cursor.position.epoch != epoch:
                raise ValueError("worker processes read this epoch; pass num_samples=, which all ranks have trained on")
            sample += cursor.samples * (world.num_ranks // (self.replication or 1))
        return self._write_state(world, Position(epoch=epoch, sample=sample))

    def _write_state(self, world: World, position: Position) -> dict[str, Any]:
        if not self._current_plan().rank_samples(world, position):
            position = Position(epoch=position.epoch + 1, sample=0)
        state = write_state(position, self._settings(), skipped=self._epochs.skipped)
        return {"initial_physical_nodes": world.num_nodes, **state}

    def _samples_left(self, position: Position) -> int:
        """Count the samples that this rank reads from a position on."""
        return self._current_plan().rank_samples(self._world(), position)

    def load_state_dict(self, obj: Mapping[str, Any], strict: bool = True) -> None:
        """Go on where a checkpoint was made: the next iteration begins with the sample that would have come next.

        Args:
            obj: What ``state_dict`` gave.
            strict: Whether a state that belongs to another order of samples is refused. False: go on at the same
                position of this dataset's order.

        Raises:
            StateMismatchError: The data, the seed or another setting that the order depends on differs.
        """
        if strict or isinstance(self._make_plan(), LaidOutPlan):
            self._plan = self._make_plan().adopt(obj)
            self._adopted = dict(obj)
        position = read_state(obj, self._settings(), strict=strict, worker=self._worker())
        self._epochs.skipped = read_skipped(obj, self._settings())
        if "worker" in obj:
            self._resumed = position
        elif not self._current_plan().rank_samples(self._world(), position):
            self._epochs.upcoming = (position.epoch + 1, 0)
        else:
            self._epochs.upcoming = (position.epoch, position.sample)

    def _settings(self) -> dict[str, Any]:
        """Say what the order of the samples depends on."""
        plan = self._make_plan()
        return {"data": self._fingerprint(), **plan.settings(self._world())}

    # Processes -------------------------------------------------------------------------------------------------------

    def _world(self) -> World:
        """Tell where this process stands."""
        job, worker = self._job(), self._worker()
        if self.rank is not None and self.world_size is not None:
            job = job.regrouped(self.rank, self.world_size)
        return job if worker is None else job.with_worker(*worker)

    def _job(self) -> World:
        """Tell which rank of how many this is; the class for torch knows of process groups too."""
        return World.from_environment()

    @property
    def _epochs(self) -> EpochCounter:
        if self._worker() is None:
            self._counter.part()
        return self._counter

    def _worker(self) -> tuple[int, int] | None:
        """Give the number of this worker process of a loader and how many there are; None elsewhere."""
        return None

    def _iteration_token(self) -> tuple[int, int] | None:
        """Give what the workers of one iteration have in common; None outside of them."""
        return None
