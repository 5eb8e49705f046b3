class VisionDataset:
    """A base class to derive from; no benchmark makes one."""
