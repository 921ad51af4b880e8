"""Where something is: a folder, or a place in an S3 store."""

SCHEME = "s3://"


def on_s3(place: str) -> bool:
    """Whether an address is in an S3 store; else it is a path."""
    return place.startswith(SCHEME)
