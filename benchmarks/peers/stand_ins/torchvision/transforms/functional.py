def to_tensor(image: object) -> None:
    raise NotImplementedError("the stand-in for torchvision transforms nothing")
