"""Libraries that only some formats need, and what to do where one is missing."""

from importlib import import_module

from tinygrad_lm.errors import DataError


def need(library, use):
    """Raises DataError, with the way to get it, where a library is missing. use: what asks for it."""
    try:
        import_module(library)
    except ImportError as error:
        raise DataError(
            f"{use} needs the library {library}, which is missing; get it with: pip install 'tinygrad-lm[data]'"
        ) from error
