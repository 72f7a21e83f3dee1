"""The text of web pages, articles and books, without their markup."""

import gzip
import zlib

import pytest
import raw_books
import raw_files

from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.curate.readers import gutenberg, html, wikipedia, wikitext

TEXT = "The first paragraph of a page, with words enough.\n\nThe second — and last — one, for Zoë."


def response(body, kind="text/html", status="200 OK", **fields):
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body, size=37):
    parts = [body[i : i + size] for i in range(0, len(body), size)] + [b""]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


# ---- web pages


def test_menus_scripts_and_footers_are_no_text():
    assert html.page_text(response(raw_files.page(TEXT).encode())) == TEXT
    assert html.page_text(response(raw_files.page(TEXT).encode(), "application/xhtml+xml; charset=utf-8")) == TEXT


def test_what_is_no_page_has_no_text():
    page = raw_files.page(TEXT).encode()
    assert html.page_text(response(page, "image/png")) is None
    assert html.page_text(response(page, status="404 Not Found")) is None
    assert html.page_text(response(page, status="301 Moved Permanently")) is None
    with pytest.raises(ValueError, match="expected a response"):
        html.page_text(page)
    with pytest.raises(ValueError, match="expected a response"):
        html.page_text(b"")


def test_a_page_is_unpacked():
    page = raw_files.page(TEXT).encode()
    assert html.page_text(response(chunked(page), Transfer_Encoding="chunked")) == TEXT
    assert html.page_text(response(page, Transfer_Encoding="chunked")) == TEXT  # the header is a leftover
    assert html.page_text(response(gzip.compress(page), Content_Encoding="gzip")) == TEXT
    assert html.page_text(response(chunked(gzip.compress(page)), Transfer_Encoding="chunked")) == TEXT
    assert html.page_text(response(page, Content_Encoding="gzip")) == TEXT
    with pytest.raises(ValueError, match="Content-Encoding deflate"):
        html.page_text(response(zlib.compress(page), Content_Encoding="deflate"))
    broken = bytearray(gzip.compress(page))
    broken[20] ^= 0xFF
    with pytest.raises(ValueError, match="gzipped page is damaged"):
        html.page_text(response(bytes(broken)))


def test_the_encoding_is_found():
    russian = "Первый абзац страницы, в котором достаточно слов, чтобы быть текстом.\n\nВторой абзац этой страницы."
    page = raw_files.page(russian).replace("©", "")
    undeclared = page.replace('<meta charset="utf-8">', "")
    assert html.page_text(response(page.encode())) == russian
    assert html.page_text(response(b"\xef\xbb\xbf" + undeclared.encode())) == russian
    assert html.page_text(response(undeclared.encode("cp1251"), 'text/html; charset="windows-1251"')) == russian
    assert html.page_text(response(page.replace("utf-8", "windows-1251").encode("cp1251"))) == russian
    assert html.page_text(response(undeclared.encode("koi8-r"))) == russian
    assert html.page_text(response(undeclared.encode("cp1251"), "text/html; charset=nonsense")) == russian


def test_the_encoding_is_not_guessed_where_it_can_be_known():
    """With so few bytes the detector guesses Baltic encodings."""
    spanish = "The cañon of the river is deep."
    page = raw_files.page(spanish).replace("©", "").replace('<meta charset="utf-8">', "")
    assert html.page_text(response(page.encode())) == spanish
    assert html.page_text(response(page.encode("latin-1"), "text/html; charset=ISO-8859-1")) == spanish
    assert html.page_text(response(page.encode("latin-1"))) != spanish


def test_a_page_of_nested_boxes_takes_no_more_time_than_others():
    deep = b"<p>a</p>" + b"<div>" * 600
    with pytest.raises(ValueError, match="more than 512 deep"):
        html.page_text(response(deep))
    assert html.page_text(response(b"<body>" + b"<div>x</div>" * 1000)).count("x") == 1000


# ---- wikitext


def words(markup, title="Title", hidden=("file", "datei", "category")):
    text = wikitext.article_text((title, markup, hidden))
    return text and text.removeprefix(f"{title}\n\n")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''Bold''' and ''italic''", "Bold and italic"),
        ("a [[link]], a [[target|label]], [[:Category:Shown]]", "a link, a label, Category:Shown"),
        ("x [[File:A.jpg|thumb|a [[link]] in it]] y", "x y"),
        ("x [[Datei:A.jpg]] [[category: Foo]] y", "x y"),
        ("x [[Star Trek: Picard]]", "x Star Trek: Picard"),
        ("x{{cite|a={{b}}}} y {{{argument|default}}}", "x y"),
        ("x<ref>note</ref><ref name=a /> y<references />", "x y"),
        ("x <!-- comment --> y", "x y"),
        ("x\n{| class=a\n|-\n| cell || {{b}}\n|}\ny", "x\n\ny"),
        ("x <math>a^2</math> y <gallery>\nFile:a.jpg\n</gallery>", "x y"),
        ("a&nbsp;b &amp; c&#233;", "a\xa0b & cé"),
        ("[http://x.org a label] and http://y.org bare", "a label and bare"),
        ("* one\n* two\n# three\n: four", "one\ntwo\nthree\nfour"),
        ("one<br>two<br />three", "one\ntwo\nthree"),
        ("<div style='a'>in a ''box''</div>", "in a box"),
        ("<nowiki>[[as it is]]</nowiki>", "[[as it is]]"),
        ("Paris ({{IPA|paʁi}}; {{IPA|x}}) is", "Paris is"),
        ("A (born {{birth|1}} ({{b}}), <ref>c</ref>) is", "A (born) is"),
        ("A ({{IPA|x}}; February 12) is {{b}}, and {{c}}. End", "A (February 12) is, and. End"),
        ("A (1809, {{b}}) is", "A (1809) is"),
        ("x [[Bild:Foto.jpg|mini|Ein Bild]] y", "x y"),
        ("x [[Imagen:a.PNG|thumb|200px|Una foto]] [[Grafika:b.svg]] [[画像:c.jpg|thumb|250px|説明]] y", "x y"),
        ("x [[Afbeelding:no suffix|thumb|a [[link]]]] y", "x y"),
        ("x [[Star Trek: Picard|the series]] [[Mission: Impossible]]", "x the series Mission: Impossible"),
        ("x\n[[fr:Paris]]\n[[zh-yue:巴黎]]\n[[:fr:Paris]] [[fr:Paris|in French]]", "x\n\nfr:Paris in French"),
        ("__KEIN_INHALTSVERZEICHNIS__ __目次強制__ x __init__", "x __init__"),
        ("-{zh-hans:计算机; zh-hant:電腦}- and -{字}-", "计算机 and 字"),
        (
            "Das Wort heißt {{lang|fr|mot}}; {{convert|10|km|mi}} or {{cvt|3|to|5|m|ft}}, {{nowrap|a b}}",
            "Das Wort heißt mot; 10 km or 3 to 5 m, a b",
        ),
        ("a\n{| class=x\n|-\n| cell\nb", "a\n\nb"),
        ("a <ref name=x> b </ref> c </div>", "a c"),
        ("A ({{b}} [[File:x.jpg]]) is; call f(), print ( ) and ({{x}})", "A is; call f(), print ( ) and"),
        ("f(<!-- nothing -->)", "f()"),
        ("[[A|{{b}}]]", "A"),
        ("x\n== Head ({{b}}) f() ==\ny", "x\n\nHead f()\n\ny"),
        ("__NOTOC__ x", "x"),
        ("Intro\n== Head ==\nbody\n=== Sub ===\nmore", "Intro\n\nHead\n\nbody\n\nSub\n\nmore"),
        ("Intro\n== A ==\n=== B ===\nbody\n== Empty ==\n{{list}}\n== Notes ==\n", "Intro\n\nA\n\nB\n\nbody"),
        ("x, such as {{IPA|a}}, {{IPA|b}}, or {{IPA|c}}. End", "x, such as, or. End"),
        ("an angle, {{b}}, and: {{c}}; d {{d}} {{e}} . f", "an angle, and; d. f"),
        (
            "({{lang-sq|Republika}}; 1912), {{transl|ar|DIN|ʿAbd}}, {{Nihongo|[[bayonet]]|銃剣|jūken}} {{small|[[G]]}}",
            "(Republika; 1912), ʿAbd, bayonet G",
        ),
        ("{{lang}}{{lang-de}}{{transl}}alkanes {{chem|C|''n''|H|2''n''+2}}", "alkanes CnH2n+2"),
        ("The Reader'' (1977)", "The Reader (1977)"),
        ("the Iliad'''s end", "the Iliad's end"),
        ("<nowiki>'' &amp;</nowiki>", "'' &"),
        ("a\n{| class=x\n! head\n|-\n| cell\n! more || x\nb\n== C ==\n! d", "a\n\nb\n\nC\n\n! d"),
        ("a<blockquote>\nb", "a\nb"),
        ("", None),
        ("{{only|templates}}\n== And ==\n[[Category:X]]", None),
    ],
)
def test_wikitext(markup, text):
    assert words(markup) == text


def test_wikitext_that_cannot_be_right():
    assert normalise(words("x &#xD800; y")) == "x \ufffd y"
    assert words("[[" * 1000) == "[[" * 1000


def test_a_dump_gives_its_articles_alone(tmp_path):
    path = tmp_path / "a.xml"
    raw_files.write_dump(
        path,
        [
            ("Talk:A", 1, "talk", None),
            ("A", 0, "text of A", None),
            ("B", 0, "#REDIRECT [[A]]", "A"),
            ('C <&> "é"', 0, "x < y & z\ttab\r\nnext [[Datei:a.jpg]]", None),
            ("Template:T", 10, "template", None),
        ],
    )
    hidden = ("media", "file", "image", "category", "medium", "datei", "kategorie")
    assert [(record.id, record.content) for record in wikipedia.article_records(path)] == [
        ("a.xml#2", ("A", "text of A", hidden)),
        ("a.xml#4", ('C <&> "é"', "x < y & z\ttab\r\nnext [[Datei:a.jpg]]", hidden)),
    ]


def test_pages_that_lack_something_and_pages_of_other_models(tmp_path):
    path = tmp_path / "a.xml"
    raw_files.write_dump(path, [(title, 0, "text", None) for title in "ABCDE"])
    content = path.read_text()
    first, *pages = content.split("  <page>\n")
    pages[0] = pages[0].replace("<ns>0</ns>", "")
    pages[1] = pages[1].replace("<model>wikitext", "<model>json")
    pages[2] = pages[2].replace("<text", "<texts").replace("</text>", "</texts>")
    path.write_text("  <page>\n".join([first, *pages]))
    one, two, three, four = wikipedia.article_records(path)
    assert (one.id, one.reason) == ("a.xml#1", "a page without <ns>")
    assert (two.id, two.reason) == ("a.xml#3", "a page without <text>")
    assert (three.id, four.id) == ("a.xml#4", "a.xml#5")


def test_entities_that_a_dump_declares_are_not_known(tmp_path):
    path = tmp_path / "a.xml"
    raw_files.write_dump(path, [("A", 0, "text", None)])
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha"}">' for i in range(12))
    path.write_text(f"<!DOCTYPE mediawiki [{entities}]>" + path.read_text().replace(">text<", ">&e11;<"))
    [damage] = wikipedia.article_records(path)
    assert "undefined entity" in damage.reason
    path.write_text(path.read_text().partition("]>")[2])
    [damage] = wikipedia.article_records(path)
    assert "undefined entity" in damage.reason


# ---- books


@pytest.mark.parametrize("header", raw_books.HEADERS)
@pytest.mark.parametrize("footer", raw_books.FOOTERS)
def test_a_book_is_what_stands_between_the_markers(header, footer):
    book = "CHAPTER I.\n\nIt began *** in the garden.\n\n\nTHE END"
    for ends in ("\n", "\r\n"):
        assert gutenberg.book_text(raw_books.book(book, header, footer).replace("\n", ends).encode()) == book
    assert gutenberg.book_text(b"\xef\xbb\xbf" + raw_books.book(book, header, footer).encode()) == book


def test_a_start_without_its_last_stars_ends_with_its_line():
    header = "*** START OF THE PROJECT GUTENBERG EBOOK A TALE"
    for first in ("CHAPTER I.", "CHAPTER I.\n\n***\n\nIt began."):
        for between in ("\n", "\n\n"):
            book = f"{header}{between}{first}{raw_books.FOOTERS['today']}"
            assert gutenberg.book_text(book.encode()) == first
    assert (
        gutenberg.book_text(f"{header},\nIN TWO\nVOLUMES ***\nIt began.{raw_books.FOOTERS['today']}".encode())
        == "It began."
    )


def test_a_book_without_its_markers_is_none():
    with pytest.raises(ValueError, match=r"START OF THE PROJECT GUTENBERG EBOOK.*format text"):
        gutenberg.book_text(b"Only a text.")
    with pytest.raises(ValueError, match=r"END OF THE PROJECT GUTENBERG EBOOK.*truncated"):
        gutenberg.book_text(raw_books.HEADERS["today"].encode() + b"Only a beginning.")
    assert gutenberg.book_text(raw_books.book("").encode()) is None


def test_a_book_that_mentions_the_markers_is_kept_whole():
    long = "words\n" * 20_000
    book = f"{long}*** START OF THE PROJECT GUTENBERG EBOOK\nEnd of the Project Gutenberg\n{long}END"
    assert gutenberg.book_text(raw_books.book(book).encode()) == book


def test_old_books_are_in_latin_1():
    book = raw_books.book("Zoë").replace("Language: English", "Language: French\n\nCharacter set encoding: ISO-8859-1")
    assert gutenberg.book_text(book.encode("latin-1")) == "Zoë"
    with pytest.raises(ValueError, match="expected UTF-8"):
        gutenberg.book_text(raw_books.book("Zoë").encode("latin-1"))
