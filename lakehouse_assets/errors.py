"""The base class of errors that a person can act on."""


class LakehouseError(Exception):
    """An error that a person can act on. The message is a sentence: what happened, where, what to do.

    A command prints the sentence and ends with status 1, without a stack trace.
    """


class SetupError(LakehouseError):
    """The machine lacks something to compute with: Java, a jar, an engine. The message says what to do."""


def sentence_of(error: BaseException | None) -> str | None:
    """The sentence inside an error, however deeply wrapped; None if nobody can act on it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # Dagster wraps errors in circles
        if isinstance(error, LakehouseError):
            return str(error)
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
