"""Dumps of Wikipedia and other MediaWiki sites: XML with the source text of every page, often compressed with bzip2.

The articles are the pages of namespace 0 that are not redirects (https://www.mediawiki.org/wiki/Help:Export). The file
is split at each <page>, which cannot occur in a text, because there < is &lt;. Expat parses each page separately: only
one page is in memory, damage affects only its page, and entities defined in the file are unknown.
"""

import re
from html import unescape
from pathlib import Path
from xml.parsers import expat

from tinygrad_lm.curate.readers.compression import open_bytes
from tinygrad_lm.curate.readers.record import LARGEST_RECORD, Damaged, Record, require_library
from tinygrad_lm.errors import DataError

BEGIN, PAGE, PAGE_END, END = b"<mediawiki", b"<page>", b"</page>", b"</mediawiki>"
FIELDS = {"title", "ns", "model", "text"}  # the elements of a page whose text is used
# Namespaces of media, files, categories, whose links are not text. The English names work in every language.
HIDDEN = re.compile(r'<namespace\b[^>]*\bkey="(?:-2|6|14)"[^>]*>([^<]+)<')
HIDDEN_EVERYWHERE = ("media", "file", "image", "category")
BLOCK = 2**16


def article_records(path):
    """Yield (title, wikitext, names of the namespaces whose links are not text) of every article."""
    require_library("mwparserfromhell", "a Wikipedia dump")
    name, number, hidden = Path(path).name, 0, HIDDEN_EVERYWHERE
    with open_bytes(path) as stream:
        if BEGIN not in (head := stream.peek(1)) and stream.damage is None:
            raise DataError(
                f"data file {path}: expected a MediaWiki dump, which begins with <mediawiki>, found {head[:40]!r}"
            )
        for content, damage, lost in _pieces(stream):
            id = f"{name}#{max(1, number)}"
            if damage:
                yield Damaged(id, damage, lost)
            elif number == 0:
                hidden += tuple(unescape(found).lower() for found in HIDDEN.findall(str(content, "utf-8", "replace")))
            else:
                try:
                    page = Page(content)
                    if page.is_article:
                        yield Record(id, (page["title"], page["text"], hidden))
                except ValueError as error:
                    yield Damaged(id, str(error), stream.part(len(content)))
            number += 1


def _pieces(stream):
    """Yield the dump's header, then what follows each <page>: (bytes, None, 0), or (b"", reason of damage, size)."""
    begun = True
    while True:
        whole = yield from _up_to_damage(stream, begun)
        if stream.damage is None:
            if not whole:
                yield b"", f"the file ends without {END.decode()}: it is truncated", stream.size
            return
        damage, lost = stream.damage, stream.resume()
        yield b"", damage, lost
        if stream.damage:
            return
        begun = False


def _up_to_damage(stream, begun):
    """Yield the _pieces up to the next damage. begun: whether this part is the first. Returns whether the dump ends."""
    piece, passed = bytearray(), 0  # passed: skipped bytes of a piece that is too long
    while block := stream.read1(BLOCK):
        start = max(0, len(piece) - len(PAGE) + 1)
        piece += block
        while (end := piece.find(PAGE, start)) >= 0:
            if passed + end > LARGEST_RECORD:
                yield _too_long(stream, passed + end)
            elif begun:
                yield bytes(piece[:end]), None, 0
            del piece[: end + len(PAGE)]
            start, passed, begun = 0, 0, True
        if len(piece) > LARGEST_RECORD:
            passed += len(piece) - len(END)
            del piece[: -len(END)]
    whole, end = piece.rstrip().endswith(END), piece.find(PAGE_END)
    if passed:
        yield _too_long(stream, passed + len(piece))
    elif begun and (whole or end >= 0):
        yield bytes(piece if whole else piece[: end + len(PAGE_END)]), None, 0
    return whole


def _too_long(stream, size):
    return b"", f"more than {LARGEST_RECORD:,} bytes without a {PAGE.decode()}", stream.part(size)


class Page(dict):
    """The FIELDS of a page by name. Raises ValueError if it is damaged. content: the bytes after <page>"""

    def __init__(self, content):
        page, end, rest = content.partition(PAGE_END)
        self.field, self.parts = None, []
        # MediaWiki writes only UTF-8, whatever the file declares.
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self.start, self.end
        parser.CharacterDataHandler = self.characters
        try:
            parser.Parse(PAGE + page + end, True)
        except expat.ExpatError as error:
            where = f"line {error.lineno:,}, column {error.offset + 1:,} of the page"
            raise ValueError(f"{where}: {expat.ErrorString(error.code)}") from None
        if missing := {"title", "ns", "text"} - self.keys():
            raise ValueError(f"a page without <{min(missing)}>")
        if (rest := rest.strip()) not in (b"", END):
            raise ValueError(f"expected another page after this one, found {rest[:40]!r}")

    @property
    def is_article(self):
        return self["ns"] == "0" and "redirect" not in self and self.get("model", "wikitext") == "wikitext"

    def start(self, name, _):
        if name == "redirect":
            self[name] = ""
        elif name in FIELDS:
            self.field, self.parts = name, []

    def characters(self, characters):
        if self.field:
            self.parts.append(characters)

    def end(self, name):
        if name == self.field:
            self[name], self.field = "".join(self.parts), None
