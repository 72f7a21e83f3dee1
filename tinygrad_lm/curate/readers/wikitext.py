"""Extract the text of MediaWiki's markup, without most templates, tables, references, files and categories.

What remains is the text of paragraphs, lists and links, and the headings of sections that are not empty.
"""

import re

# The content of these tags is layout, code, or a note.
REMOVED = {
    "categorytree", "ce", "chem", "gallery", "graph", "hiero", "imagemap", "indicator", "inputbox", "mapframe",
    "maplink", "math", "ref", "references", "score", "section", "source", "style", "syntaxhighlight", "table",
    "templatedata", "templatestyles", "timeline",
}  # fmt: skip
GONE = "\0"  # marks removed markup; XML cannot contain it
GAP = r"[ \t,;:\0]*"  # what may stand around it in brackets
HOLES = [  # (what removed markup leaves behind, what should be there)
    (re.compile(rf"\({GAP}\0{GAP}"), "("),
    (re.compile(rf"{GAP}\0{GAP}\)"), ")"),
    (re.compile(r"[,;:]?(?:[ \t]*\0)+[ \t]*(?=[,.;:])"), ""),
]
MEDIA = re.compile(r"\.(jpe?g|png|gif|svg|tiff?|webp|webm|og[gvam]|oga|mp[34]|wav|flac|midi?|pdf|djvu|xcf|stl)$", re.I)
LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*")  # the prefix of a link to the same article in another language
SWITCH = re.compile(r"__(?:[^\W\d_]|_(?!_))+__")  # such as __NOTOC__, in the language of the wiki
VARIANT = re.compile(r"-\{([^{}]*)\}-")  # a word in several scripts, -{zh-hans:…; zh-hant:…}-
LEAKED = re.compile(r"^[ \t]*(?:\{\||\|).*$", re.M)  # rows of a table that is not closed
HEADS = re.compile(r"^[ \t]*!.*$", re.M)  # and its headings, which elsewhere may be text
TAGS = re.compile(r"</?(?:ref|references|div|span|small|su[bp]|center|blockquote|table|t[rdh])\b[^<>]*>", re.I)
QUOTES = re.compile(r"''+(?='s\b)|''+")  # italics that are not closed
WORDS = {  # templates that carry words of their sentence, and which of their values it is
    "nowrap": 0, "nobr": 0, "small": 0, "smaller": 0, "big": 0, "angbr": 0, "nihongo": 0, "lang": 1, "rtl-lang": 1,
    "transl": -1, "transliteration": -1,
}  # fmt: skip
BETWEEN = {"to", "and", "or", "by", "x", "×", "-", "–", "to(-)"}  # of two numbers of {{convert}}
EMPTIED = re.compile(r" ?\([\s,;:]*\0[\s,;:\0]*\)")  # brackets that became empty, unlike f()


def article_text(content):
    """The title and text of an article; None without words. content: of a record of wikipedia.py"""
    import mwparserfromhell
    from mwparserfromhell.nodes import Heading

    title, wikitext, hidden = content
    sections = [(0, title, [])]  # (level, heading, pieces of text)
    try:
        for node in mwparserfromhell.parse(wikitext).nodes:
            if isinstance(node, Heading):
                sections.append((node.level, _tidy(_words(node.title, hidden)), []))
            else:
                sections[-1][2].append(_node(node, hidden))
    except RecursionError:
        raise ValueError("expected wikitext, found too deeply nested brackets") from None
    except mwparserfromhell.parser.ParserError as error:
        raise ValueError(f"its wikitext cannot be parsed: {error}") from None
    parts, below = [], 0  # from the last section to the first; below: the level of the next kept section
    for level, heading, pieces in reversed(sections):
        body = _tidy("".join(pieces))
        if body or below > level:
            parts += [body, heading.strip()]
            below = level
    return "\n\n".join(part for part in reversed(parts) if part) or None


def _words(code, hidden):
    return "".join(_node(node, hidden) for node in code.nodes) if code else ""


def _node(node, hidden):
    """The text of one node of markup."""
    from mwparserfromhell import nodes

    match node:
        case nodes.Text():
            return QUOTES.sub("", node.value)
        case nodes.HTMLEntity():
            return node.normalize()
        case nodes.Heading():
            return f"\n{_words(node.title, hidden)}\n"
        case nodes.ExternalLink():
            return _words(node.title, hidden)
        case nodes.Wikilink():
            namespace, colon, page = str(node.title).partition(":")
            if colon and namespace.strip() and _hides(namespace.strip(), page.strip(), node.text, hidden):
                return GONE
            label = _words(node.text, hidden)
            return label if label.strip(GONE) else _words(node.title, hidden).removeprefix(":")
        case nodes.Tag():
            name = str(node.tag).strip().lower()
            if name == "nowiki":
                return "".join(n.value if isinstance(n, nodes.Text) else _node(n, hidden) for n in node.contents.nodes)
            return "\n" if name == "br" else GONE if name in REMOVED else _words(node.contents, hidden)
        case nodes.Comment():
            return ""
        case nodes.Template():
            return _template(node, hidden)
    return GONE  # arguments of templates


def _hides(namespace, page, label, hidden):
    """Whether a link with a prefix is not text: of a hidden namespace, media in any language, or interlanguage."""
    if namespace.lower() in hidden or MEDIA.search(page) or "|" in str(label or ""):
        return True
    return label is None and LANGUAGE.fullmatch(namespace) is not None


def _template(node, hidden):
    """The text of the few templates that carry words of their sentence."""
    name = str(node.name).strip().lower()
    values = [_words(p.value, hidden).strip() for p in node.params if not p.showkey]
    place = 0 if name.startswith("lang-") else WORDS.get(name, len(values))
    if place < len(values):
        return values[place] if values else GONE
    if name in ("chem", "chem2"):
        return "".join(values)
    if name in ("convert", "cvt") and len(values) > 1:
        return " ".join(values[: 4 if values[1] in BETWEEN else 2])
    return GONE


def _tidy(text):
    """Remove what removed markup leaves behind: empty brackets, double spaces, several empty lines."""
    text = SWITCH.sub(lambda found: "" if found[0] == found[0].upper() else found[0], text)
    text = VARIANT.sub(lambda found: found[1].split(";")[0].rpartition(":")[2].strip(), text)
    text, rows = LEAKED.subn("", text)
    text = EMPTIED.sub("", TAGS.sub("", HEADS.sub("", text) if rows else text))
    for pattern, rest in HOLES:
        text = pattern.sub(rest, text)
    text = text.replace(GONE, "")
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
