"""Dumps of Wikipedia and other MediaWiki sites: XML with the source text of every page, often under bzip2.

The articles are the pages of namespace 0 that are no redirects (https://www.mediawiki.org/wiki/Help:Export). Expat
hands over the elements as they go by, so nothing but the page at hand is kept. A dump declares no document type; one
that does is refused, for there it could define entities that multiply without end.
"""

from pathlib import Path
from xml.parsers import expat

from tinygrad_lm.curate.readers.compression import open_bytes
from tinygrad_lm.curate.readers.document import LARGEST, Damaged, Record
from tinygrad_lm.curate.readers.libraries import need
from tinygrad_lm.errors import DataError

FIELDS = {"title", "ns", "model", "text"}  # the elements of a page whose characters count
HIDDEN = {"-2", "6", "14"}  # namespaces of media, files, categories: a link to one is no text
BLOCK = 2**16


def records(path):
    """(title, wikitext, names of the namespaces whose links are no text) of every article."""
    need("mwparserfromhell", "a Wikipedia dump")
    dump = Dump(Path(path).name)
    with open_bytes(path) as stream:
        try:
            while block := stream.read1(BLOCK):
                yield from dump.feed(block)
            yield from dump.feed(b"", last=stream.damage is None)
            damage = stream.damage
        except expat.ExpatError as error:
            damage = f"line {error.lineno:,}, column {error.offset + 1:,}: {expat.ErrorString(error.code)}"
        except ValueError as error:
            damage = str(error)
        if dump.root != "mediawiki" and not stream.damage:
            raise DataError(
                f"data file {path}: expected a MediaWiki dump, which begins with <mediawiki>, found {damage}"
            )
        if damage:
            yield from dump.found
            yield Damaged(f"{dump.name}#{dump.number + 1}", stream.damage or damage)


class Dump:
    """What the elements of a dump add up to. feed(bytes) -> the records that end in them."""

    def __init__(self, name):
        self.name, self.number, self.root, self.found = name, 0, None, []
        self.namespaces = ["media", "file", "image", "category"]  # these are understood in every language
        self.page, self.field, self.parts = {}, None, []  # of the page, and of its element that is being read
        self.size = self.silence = 0  # characters of that element; bytes since the last element or character
        # "utf-8" whatever the file declares, as MediaWiki writes nothing else.
        self.parser = parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self.refuse
        parser.StartElementHandler, parser.EndElementHandler = self.start, self.end
        parser.CharacterDataHandler = self.characters

    def feed(self, block, last=False):
        self.found, self.silence = [], self.silence + len(block)
        self.parser.Parse(block, last)
        if self.silence > LARGEST:
            raise ValueError(f"line {self.parser.CurrentLineNumber:,}: a tag or comment of more than {LARGEST:,} bytes")
        found, self.found = self.found, []
        return found

    def refuse(self, name, *_):
        raise ValueError(f"line {self.parser.CurrentLineNumber:,}: a declaration of the document type {name}, refused")

    def start(self, name, attributes):
        self.silence = 0
        if self.root is None:
            self.root = name
            if name != "mediawiki":
                raise ValueError(f"<{name}>")
        if name == "page":
            self.page = {}
        elif name == "redirect":
            self.page[name] = True
        elif name in FIELDS or (name == "namespace" and attributes.get("key") in HIDDEN):
            self.field, self.parts, self.size = name, [], 0

    def characters(self, characters):
        self.silence = 0
        if self.field:
            self.size += len(characters)
            if self.size <= LARGEST:
                self.parts.append(characters)

    def end(self, name):
        self.silence = 0
        if name == self.field:
            value = "".join(self.parts)
            if name == "namespace":
                self.namespaces.append(value.lower())
            else:
                self.page[name] = value if self.size <= LARGEST else None
            self.field, self.parts = None, []
        elif name == "page":
            self.number += 1
            self.finish(self.page, f"{self.name}#{self.number}")

    def finish(self, page, id):
        if missing := {"title", "ns", "text"} - page.keys():
            self.found.append(Damaged(id, f"a page without <{min(missing)}>"))
        elif None in page.values():
            self.found.append(Damaged(id, f"a page of more than {LARGEST:,} characters"))
        elif page["ns"] == "0" and "redirect" not in page and page.get("model", "wikitext") == "wikitext":
            self.found.append(Record(id, (page["title"], page["text"], tuple(self.namespaces))))
