r"""Regular expressions that never backtrack, for texts that a model wrote to please them.

Python's `re` needs 2ⁿ steps for (a|a)*b and n letters a. Here all ways to match are followed at once (Thompson 1968,
"Regular expression search algorithm"), so a text costs at most its length times the expression's.

Python's notation for: characters, escapes such as \. \n \d \w \s, any character but a line end (.), classes [a-z] and
[^0-9], groups (…) and (?:…), alternatives |, and the repetitions * + ? {3} {2,} {2,5}. \d, \w, \s and their opposites
mean ASCII. The whole text is matched, so ^ and $ do not occur; look-around, back-references and flags neither.
"""

import re
from functools import lru_cache

from tinygrad_lm.errors import DataError

LARGEST = 10_000  # instructions
# One character of a text: a class, an escape, or itself. The opposite of what has a meaning of its own.
ATOM = re.compile(r"\[\^?\]?(?:\\.|[^\]\\\[])*\]|\\[dDwWsSntrfv]|\\[^A-Za-z0-9]|[^\\\[\](){}|*+?^$]", re.DOTALL)
SET_OPERATION = re.compile(r"--|&&|~~|\|\|")  # reserved by `re` for sets within a class
REPEAT = re.compile(r"\*|\+|\?|\{(\d{1,4})(,?)(\d{0,4})\}", re.ASCII)

# A program is a list. A test of one character, a compiled expression, leads to the next instruction if it matches. A
# tuple of distances leads to several instructions at once: (1, 5) is a fork, (-3,) a jump. Behind the last is success.


def match_whole(expression, text):
    """Whether the whole text matches. Raises DataError for an expression outside this notation."""
    program = compile_program(expression)
    places = reach(program, {0})
    for character in text:
        if not places:
            return False
        passed = {i + 1 for i in places if i < len(program) and program[i].fullmatch(character)}
        places = reach(program, passed)
    return len(program) in places


def reach(program, places):
    """The tests, and perhaps the end, that lead on from these places without a character."""
    seen, waiting = set(), list(places)
    while waiting:
        if (i := waiting.pop()) not in seen:
            seen.add(i)
            if i < len(program) and isinstance(program[i], tuple):
                waiting += (i + distance for distance in program[i])
    return {i for i in seen if i == len(program) or not isinstance(program[i], tuple)}


@lru_cache(1024)
def compile_program(expression):
    """The program of an expression. Raises DataError with the place of what is wrong."""
    program, place = alternatives(expression, 0, 0)
    if place < len(expression):
        raise refusal(expression, place, "expected its end, found a bracket that nothing opens")
    return program


def alternatives(expression, place, depth):
    """The program of a|b|…, up to a bracket or the end, and where that is."""
    if depth > 50:
        raise refusal(expression, place, "expected at most 50 groups within each other")
    program, place = sequence(expression, place, depth)
    while expression[place : place + 1] == "|":
        other, place = sequence(expression, place + 1, depth)
        program = [(1, len(program) + 2), *program, (len(other) + 1,), *other]
    return program, place


def sequence(expression, place, depth):
    """The program of what stands one behind the other, up to | or a bracket or the end, and where that is."""
    program = []
    while place < len(expression) and expression[place] not in "|)":
        if expression[place] == "(":
            start = place + (3 if expression.startswith("(?:", place) else 1)
            part, end = alternatives(expression, start, depth + 1)
            if expression[end : end + 1] != ")":
                raise refusal(expression, place, "expected a bracket that closes this one")
            place = end + 1
        elif atom := ATOM.match(expression, place):
            part, place = [one_character(expression, atom)], atom.end()
        else:
            raise refusal(expression, place, "expected a character, an escape, a class or a group")
        if found := REPEAT.match(expression, place):
            part, place = repeat(part, found, expression), found.end()
        program += part
        if len(program) > LARGEST:
            raise refusal(expression, place, f"expected at most {LARGEST:,} characters, repetitions counted")
    return program, place


def one_character(expression, atom):
    """The test of an atom: `re` knows classes and escapes, which cannot backtrack."""
    text = atom.group()
    try:
        if len(text) > 1 and SET_OPERATION.search(text):
            raise re.error("an operation on sets, which Python reserves; write \\- \\& \\~ \\|")
        return re.compile(text, re.ASCII)
    except re.error as error:
        raise refusal(expression, atom.start(), str(error)) from None


def repeat(part, found, expression):
    """The program of part*, part+, part? or part{least,most}."""
    n = len(part)
    if found.group() == "*":
        return [(1, n + 2), *part, (-n - 1,)]
    if found.group() == "+":
        return [*part, (-n, 1)]
    if found.group() == "?":
        return [(1, n + 1), *part]
    least, comma, most = found.groups()
    least, most = int(least), int(most) if most else None if comma else int(least)
    if (most is not None and most < least) or n * max(least, most or 0) > LARGEST:
        raise refusal(expression, found.start(), f"expected {least} or more, and few, repetitions")
    rest = [(1, n + 2), *part, (-n - 1,)] if most is None else [(1, n + 1), *part] * (most - least)
    return part * least + rest


def refusal(expression, place, problem):
    return DataError(f"pattern {expression!r}, position {place}: {problem}, found {expression[place:][:20]!r}")
