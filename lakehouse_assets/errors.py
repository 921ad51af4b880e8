"""The one base class of what a person can act on."""


class LakehouseError(Exception):
    """Something that a person can mend; the message is a sentence that says what it concerns and what to do.

    A command ends with the sentence and status 1, and no stack trace.
    """


class SetupError(LakehouseError):
    """What this machine, not the lakehouse, lacks to compute: Java, a jar, an engine; the message says what to do."""


def sentence_of(error: BaseException | None) -> str | None:
    """The sentence inside an error, however deep it was wrapped; none where nobody can act on it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # Dagster wraps errors in circles
        if isinstance(error, LakehouseError):
            return str(error)
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
