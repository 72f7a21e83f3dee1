"""What can go wrong, by kind. Every message says what, where, what was expected, what was found, and what to do next.

Each kind is also a ValueError or an OSError, so code that knows nothing of this package can catch it too. The page
has none.
"""


# fmt: off
class TinygradError(Exception): """The base of all errors that this package raises on purpose."""
class ShapeError(TinygradError, ValueError): """Arrays whose shapes do not fit an operation."""
class DtypeError(TinygradError, ValueError): """Arrays whose element types do not fit an operation, or each other."""
class GraphError(TinygradError, ValueError): """A backward pass that the recorded graph cannot answer."""
class GradientError(TinygradError, ValueError): """A gradient that differs from its numerical derivative."""
class TokenError(TinygradError, ValueError): """Text that a vocabulary cannot express, or a token id outside it."""
class ConfigError(TinygradError, ValueError): """Settings that contradict each other or make no sense."""
class DivergedError(TinygradError, ValueError): """A loss or a gradient that is not a finite number."""
class DataError(TinygradError, OSError): """A file of text or tokens that is missing, empty, damaged or too short."""
class CheckpointError(TinygradError, OSError): """A checkpoint that is missing, damaged, or of another model."""
class DeviceError(TinygradError, OSError): """A device that is not there, or arrays on different devices."""
# fmt: on


def check_ranges(subject: str, settings: dict) -> None:
    """Raise one ConfigError that names every setting outside its range.

    settings: {name: (value, rule, ok)}; the message continues "name must be" with the rule. Write ok so that NaN fails:
        check_ranges("sampling", {"top_p": (p, "above 0 and at most 1", 0 < p <= 1)})
    """
    problems = [f"{name} must be {rule}, found {value!r}" for name, (value, rule, ok) in settings.items() if not ok]
    if problems:
        raise ConfigError(f"{subject}: " + "; ".join(problems))
