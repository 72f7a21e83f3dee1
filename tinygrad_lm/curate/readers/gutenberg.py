"""Books of Project Gutenberg, without the licence's header and footer.

The markers have changed since 1971. Since about 2003 they are lines with three stars and "THE" or "THIS PROJECT
GUTENBERG EBOOK"; before that, the header ends with the end of the "small print", and the footer begins with a line such
as "End of The Project Gutenberg Etext of …". The variants are from c-w/gutenberg on GitHub
(gutenberg/_domain_model/text.py), except those that name a volunteer or a site: one rule covers a paragraph of credits.
"""

import re
from functools import partial

from tinygrad_lm.curate.readers import plain
from tinygrad_lm.curate.readers.record import LARGEST_RECORD

FRONT = BACK = 50_000  # characters searched for header and footer: more than twice the licence

STARS = r"^[ \t]*\*{3} ?%s (?:OF )?TH(?:E|IS) (?:COPYRIGHTED )?PROJECT GUTENBERG"
START = re.compile(
    "|".join([
        STARS % "START" + r"(?:[^*\n]*(?:\n[^*\n]+){0,2}\*{3}|.*$)",  # with long titles, or without stars
        r"^[ \t]*\*END ?\*? ?THE SMALL PRINT!?.*$",
    ]),
    re.MULTILINE | re.IGNORECASE,
)  # fmt: skip
END = re.compile(
    "|".join([
        STARS % "END",
        r"^[ \t]*(?:This is the )?End of (?:the |this )?Project Gutenberg",
        r"^[ \t]*Ende diese[sr]? Proje[ck]t Gutenberg",
        r"^[ \t]*Fin de Project Gutenberg",
    ]),
    re.MULTILINE | re.IGNORECASE,
)  # fmt: skip
CREDITS = re.compile(
    r"\s*(?:Produced|E-?text prepared|This e(?:text|book) was (?:prepared|produced)) by.*?(?:\n\s*\n|$)",
    re.DOTALL | re.IGNORECASE,
)
# Before UTF-8 became the rule, books in other languages than English used Latin-1 or Windows-1252.
LATIN = re.compile(
    rb"^Character set encoding: *(?:ISO[- ]?(?:8859-1|Latin-1)|(?:CP|Windows)-?1252)\s*$", re.MULTILINE | re.IGNORECASE
)

book_records = partial(plain.plain_records, most=LARGEST_RECORD)  # a book is one document of any length


def book_text(content):
    """The book alone. Raises ValueError if a marker is missing, because the file is truncated or of another kind."""
    characters = str(content, "cp1252") if LATIN.search(content[:FRONT]) else plain.plain_text(content)
    characters = characters.replace("\r\n", "\n")
    starts = list(START.finditer(characters, 0, FRONT))
    if not starts:
        raise ValueError('expected a line "*** START OF THE PROJECT GUTENBERG EBOOK", found none; for books without '
                         'the licence use the format text')  # fmt: skip
    begin = starts[-1].end()  # some files have both markers
    end = END.search(characters, max(begin, len(characters) - BACK))
    if not end:
        raise ValueError('expected a line "*** END OF THE PROJECT GUTENBERG EBOOK", found none; the file is truncated')
    book = characters[begin : end.start()]
    if credits := CREDITS.match(book):
        book = book[credits.end() :]
    return book.strip() or None
