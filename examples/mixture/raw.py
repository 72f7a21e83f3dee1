"""Raw files in the true formats, written here: what crawls, dumps and shelves look like.

write_*(path, documents) writes texts as a file of one format, compressed as its suffix says.
"""

import bz2
import gzip
import json
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape

import pyarrow as pa
import zstandard
from pyarrow import parquet
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

DATE = "2024-02-21T01:02:03Z"


def write_bytes(path, content):
    """Compressed as the suffix says."""
    compress = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    }
    Path(path).write_bytes(compress.get(Path(path).suffix, bytes)(content))


def write_text(path, text):
    write_bytes(path, text.encode())


def write_jsonl(path, documents):
    lines = [json.dumps({"text": text, "meta": {"number": i}}) + "\n" for i, text in enumerate(documents)]
    write_bytes(path, "".join(lines).encode())


def write_parquet(path, documents, rows=100):
    """FineWeb's columns; `rows` to a row group."""
    texts = list(documents)
    table = pa.table({
        "text": pa.array(texts, pa.string()),
        "id": [f"<urn:uuid:{i:032x}>" for i in range(len(texts))],
        "dump": pa.array(["CC-MAIN-2024-10"] * len(texts), pa.string()),
        "url": pa.array([f"https://example.org/{i}" for i in range(len(texts))], pa.string()),
        "language_score": pa.array([0.9] * len(texts), pa.float64()),
        "token_count": pa.array([len(text or "") // 4 for text in texts], pa.int64()),
    })  # fmt: skip
    parquet.write_table(table, path, row_group_size=rows, write_page_checksum=True)


def write_wet(path, documents):
    """CommonCrawl's text files: a warcinfo record, then a conversion a page; under .gz, a gzip member a record."""
    with archive(path) as (writer, put):
        for i, text in enumerate(documents):
            fields = {"WARC-Date": DATE, "WARC-Identified-Content-Language": "eng"}
            put(
                writer.create_warc_record(
                    f"https://example.org/{i}",
                    "conversion",
                    payload=BytesIO(text.encode()),
                    warc_content_type="text/plain",
                    warc_headers_dict=fields,
                )
            )


def write_warc(path, documents):
    """CommonCrawl's pages: for each its request, the server's response and the crawler's metadata."""
    with archive(path) as (writer, put):
        for i, text in enumerate(documents):
            request = StatusAndHeaders("GET /a HTTP/1.1", [("Host", "example.org")], is_http_request=True)
            answer = [("Content-Type", "text/html; charset=UTF-8"), ("X-Crawl-Content-Encoding", "gzip")]
            url = f"https://example.org/{i}"
            put(writer.create_warc_record(url, "request", http_headers=request))
            put(response(writer, url, page(text).encode(), answer))
            put(writer.create_warc_record(url, "metadata", payload=BytesIO(b"fetchTimeMs: 153\r\n")))


@contextmanager
def archive(path):
    """(what makes records, what writes them) for a WARC file, which begins with a record about itself."""
    with open(path, "wb") as file:
        writer = WARCWriter(file, gzip=Path(path).suffix == ".gz", warc_version="1.0")

        def put(record):
            writer.write_record(record)
            record.raw_stream.close()

        about = {"isPartOf": "CC-MAIN-2024-10", "description": "a made-up crawl", "robots": "classic"}
        put(writer.create_warcinfo_record(Path(path).name, about))
        yield writer, put


def response(writer, url, body, fields, status="200 OK"):
    headers = StatusAndHeaders(status, fields, protocol="HTTP/1.1")
    return writer.create_warc_record(url, "response", payload=BytesIO(body), http_headers=headers)


def page(text):
    """A web page: the text between a menu and a footer."""
    paragraphs = "\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in text.split("\n\n"))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>A page</title><style>p {{ color: red }}</style></head><body>
<nav><ul><li><a href="/">MENU-HOME</a></li><li><a href="/shop">MENU-SHOP</a></li></ul></nav>
<main><article>
{paragraphs}
</article></main>
<footer>FOOTER © 2024</footer><script>var SCRIPT = 1;</script></body></html>
"""


SITE = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>madeupwiki</dbname>
    <base>https://example.org/wiki/Main_Page</base>
    <generator>MediaWiki 1.42.0</generator>
    <case>first-letter</case>
    <namespaces>
      <namespace key="-2" case="first-letter">Medium</namespace>
      <namespace key="-1" case="first-letter">Spezial</namespace>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Diskussion</namespace>
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="10" case="first-letter">Vorlage</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""


def write_dump(path, pages):
    """A MediaWiki export. pages: (title, namespace, wikitext, the title that it redirects to or None)"""
    parts = [SITE]
    for i, (title, namespace, wikitext, target) in enumerate(pages, start=1):
        redirect = f'    <redirect title="{xml(target)}" />\n' if target else ""
        parts.append(f"""  <page>
    <title>{xml(title)}</title>
    <ns>{namespace}</ns>
    <id>{i}</id>
{redirect}    <revision>
      <id>{1000 + i}</id>
      <timestamp>{DATE}</timestamp>
      <contributor>
        <username>Someone</username>
        <id>7</id>
      </contributor>
      <comment>a comment</comment>
      <model>wikitext</model>
      <format>text/x-wiki</format>
      <text bytes="{len(wikitext.encode())}" xml:space="preserve">{xml(wikitext)}</text>
      <sha1>00000000000000000000000000000</sha1>
    </revision>
  </page>
""")
    write_bytes(path, "".join([*parts, "</mediawiki>\n"]).encode())


def xml(text):
    return escape(text, {'"': "&quot;", "\r": "&#13;"})


def write_wikipedia(path, documents):
    """Articles with all that an article has, among a redirect, a talk page and a template."""
    pages = []
    for i, text in enumerate(documents):
        pages.append((f"Article {i}", 0, article(text), None))
        if i % 3 == 0:
            pages += [
                (f"Artikel {i}", 0, f"#REDIRECT [[Article {i}]]", f"Article {i}"),
                (f"Diskussion:Article {i}", 1, "== Question ==\nTALK ~~~~", None),
                (f"Vorlage:Box {i}", 10, "<includeonly>TEMPLATE</includeonly>", None),
            ]
    write_dump(path, pages)


def article(text):
    """The wikitext of an article that reads as `text`."""
    first, *others = text.split("\n\n")
    body = "\n\n".join(
        f"{paragraph}<ref>{{{{cite web|url=http://example.org|title=NOTE}}}}</ref>" for paragraph in others
    )
    return f"""{{{{Infobox
| name = BOX
| picture = [[File:Box.jpg|40px]]
}}}}
[[Datei:Picture.jpg|thumb|A CAPTION with a [[link]]]]
{first}<!-- COMMENT -->

{{| class="wikitable"
|-
! HEAD !! HEAD
|-
| CELL || CELL
|}}
{body}

== See also ==
{{{{Portal|PORTAL}}}}
[[Kategorie:CATEGORY]]
"""


# What stands before and after the books of different years.
HEADERS = {
    "today": """The Project Gutenberg eBook of A Made-Up Tale

HEADER of our own words, in the place of the licence's.

Title: A Made-Up Tale

Language: English

*** START OF THE PROJECT GUTENBERG EBOOK A MADE-UP TALE ***


""",
    "two lines": """HEADER

*** START OF THE PROJECT GUTENBERG EBOOK A MADE-UP TALE,
IN TWO VOLUMES ***

""",
    "2004": """The Project Gutenberg EBook of A Made-Up Tale

HEADER

*** START OF THIS PROJECT GUTENBERG EBOOK A MADE-UP TALE ***



Produced by Somebody CREDIT and the Online
Distributed Proofreading Team


""",
    "2003": """HEADER

***START OF THE PROJECT GUTENBERG EBOOK A MADE-UP TALE***


E-text prepared by Somebody CREDIT


""",
    "2002": """HEADER

*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*

This eBook was produced by CREDIT.

""",
    "1994": """**The Project Gutenberg Etext of A Made-Up Tale**

***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***
HEADER
*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*


""",
    "copyrighted": """HEADER

*** START OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK A MADE-UP TALE ***

""",
}
FOOTERS = {
    "today": """

*** END OF THE PROJECT GUTENBERG EBOOK A MADE-UP TALE ***

FOOTER of our own words.
""",
    "2004": """




End of the Project Gutenberg EBook of A Made-Up Tale, by Nobody

*** END OF THIS PROJECT GUTENBERG EBOOK A MADE-UP TALE ***

FOOTER
""",
    "possessive": """

End of Project Gutenberg's A Made-Up Tale, by Nobody

FOOTER
""",
    "2003": """

***END OF THE PROJECT GUTENBERG EBOOK A MADE-UP TALE***

FOOTER
""",
    "1994": """

End of The Project Gutenberg Etext of A Made-Up Tale
""",
    "German": """

Ende dieses Projekt Gutenberg Etextes A Made-Up Tale
""",
}


def book(text, header="today", footer="today"):
    return HEADERS[header] + text + FOOTERS[footer]


def write_books(folder, documents):
    """A file a book, in a folder, with the licence's markers of different years in turn."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(documents):
        header, footer = list(HEADERS)[i % len(HEADERS)], list(FOOTERS)[i % len(FOOTERS)]
        write_text(Path(folder, f"pg{i}.txt"), book(text, header, footer))
