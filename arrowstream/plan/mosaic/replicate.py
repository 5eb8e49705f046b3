"""Jobs in which several ranks read the same samples, as mosaicml-streaming counts them."""

from dataclasses import replace

from arrowstream.world import World


def replicate(world: World, replication: int | None) -> World:
    """Take consecutive ranks that read the same samples for one.

    Args:
        world: The job as it is, and the worker in it.
        replication: Ranks that read the same; None for 1.

    Returns:
        The job as the order sees it, with as many nodes as its ranks fill; if they do not fill whole nodes, with one.

    Raises:
        ValueError: The replication is not positive, or does not divide the ranks.
    """
    if replication is None:
        return world
    if replication < 1:
        raise ValueError("Replication factor must be positive.")
    if world.num_ranks % replication:
        raise ValueError("World size must be divisible by your replication factor.")
    num_ranks = world.num_ranks // replication
    ranks_per_node = world.ranks_per_node if num_ranks % world.ranks_per_node == 0 else num_ranks
    return replace(
        world,
        num_nodes=num_ranks // ranks_per_node,
        ranks_per_node=ranks_per_node,
        rank=world.rank // replication,
    )
