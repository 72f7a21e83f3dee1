"""The text of web pages in WARC files, without menus, scripts and advertisements.

resiliparse's main-content extraction: at the scale of 1 billion parameters, models trained on its texts did about as
well as on trafilatura's, and better than on WET's (CORE 24.1, 24.5, 20.7: Li et al. 2024, DataComp-LM, section 4.2,
which also reports that it runs 8 × as fast as trafilatura).
"""

import re
import zlib
from io import BytesIO
from itertools import accumulate

from tinygrad_lm.curate.readers import warc
from tinygrad_lm.curate.readers.record import LARGEST_RECORD, require_library

PAGES = {"text/html", "application/xhtml+xml"}
# The time of the extraction is quadratic in the depth of these: minutes for half a megabyte of <div>. Chrome's parser
# also limits the depth to 512.
NESTS, DEPTH = re.compile(rb"<(/?)(?:div|article)\b", re.IGNORECASE), 512

CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # absent from text, present in nearly all compressed data


def page_records(path):
    """Yield the HTTP responses as bytes, with headers."""
    require_library("resiliparse", "a WARC file of pages")
    return warc.warc_records(path, "response")


def page_text(content):
    """The text of a response; None if it is not a page, or reports an error."""
    from resiliparse.extract.html2text import extract_plain_text
    from warcio.bufferedreaders import ChunkedDataReader
    from warcio.statusandheaders import StatusAndHeadersParser

    stream = BytesIO(content)
    if not content.startswith(b"HTTP/"):
        raise ValueError(f"expected a response, which begins with HTTP/1.1, found {content[:40]!r}")
    fields = StatusAndHeadersParser([], verify=False).parse(stream)
    kind, _, rest = (fields.get_header("Content-Type") or "").lower().partition(";")
    if not fields.statusline.startswith("200") or kind.strip() not in PAGES:
        return None
    chunked = (fields.get_header("Transfer-Encoding") or "").lower() == "chunked"
    body = ChunkedDataReader(stream).read() if chunked else stream.read()
    body = _decompressed(body, fields.get_header("Content-Encoding"))
    if max(accumulate((-1 if end else 1 for end in NESTS.findall(body)), initial=0)) > DEPTH:
        raise ValueError(f"a page with <div> in <div> more than {DEPTH} deep")
    return extract_plain_text(_characters(body, rest), main_content=True, alt_texts=False)


def _decompressed(body, encoding):
    """Decompress a page if its bytes are gzip: until 2018 CommonCrawl kept the header of pages it had decompressed."""
    if body.startswith(b"\x1f\x8b"):
        try:
            return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(body, LARGEST_RECORD)
        except zlib.error as error:
            raise ValueError(f"the gzipped page is damaged: {error}") from None
    if encoding and CONTROLS.search(body, 0, 1024):
        raise ValueError(f"a page with Content-Encoding {encoding}, which cannot be read here")
    return body


def _characters(body, parameters):
    """Decode a page: as UTF-8 if valid, else as HTTP, the page or its bytes suggest."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    try:
        return str(body, "utf-8-sig")
    except UnicodeDecodeError:
        declared = parameters.partition("charset=")[2].strip(" \"'")
        encoding = map_encoding_to_html5(declared, fallback_utf8=False) if declared else None
        return bytes_to_str(body, encoding or detect_encoding(body, from_html_meta=True) or "utf-8")
