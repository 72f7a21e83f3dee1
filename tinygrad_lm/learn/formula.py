"""An operation's formula in its two parts."""


def halves(op):
    """The formula of the value, and those of the gradients."""
    value, _, gradients = op.formula.partition("        ")
    return value, gradients.strip()
