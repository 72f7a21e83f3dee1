"""Write raw files in real formats: crawls, dumps, tables.

write_*(path, documents) writes texts to a file of one format, compressed according to its suffix.
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
    """Write bytes, compressed according to the suffix."""
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
    """Write FineWeb's columns, with `rows` per row group."""
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
    """CommonCrawl's WET files: a warcinfo record, then a conversion per page; under .gz, a gzip member per record."""
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
    """CommonCrawl's WARC files: for each page the request, the response and the crawler's metadata."""
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
    """Yield (a WARCWriter, a function that writes a record) for a file that begins with a warcinfo record."""
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
    """A web page with the text between a menu and a footer."""
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
    """Write a MediaWiki export. pages: (title, namespace, wikitext, target of the redirect or None)"""
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
    """Write articles with typical markup, between redirects, talk pages and templates."""
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
    """The wikitext of an article whose text is `text`."""
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
