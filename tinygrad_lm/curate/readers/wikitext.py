"""Extract the text of MediaWiki's markup, without templates, tables, references, files and categories.

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
            return node.value
        case nodes.HTMLEntity():
            return node.normalize()
        case nodes.Heading():
            return f"\n{_words(node.title, hidden)}\n"
        case nodes.ExternalLink():
            return _words(node.title, hidden)
        case nodes.Wikilink():
            namespace, colon, _ = str(node.title).partition(":")
            if colon and namespace.strip().lower() in hidden:
                return GONE
            label = _words(node.text, hidden)
            return label if label.strip(GONE) else _words(node.title, hidden).removeprefix(":")
        case nodes.Tag():
            name = str(node.tag).strip().lower()
            return "\n" if name == "br" else GONE if name in REMOVED else _words(node.contents, hidden)
        case nodes.Comment():
            return ""
    return GONE  # templates and their arguments


def _tidy(text):
    """Remove what removed markup leaves behind: empty brackets, double spaces, several empty lines."""
    text = re.sub(r"__[A-Z]+__", "", text)  # such as __NOTOC__
    text = EMPTIED.sub("", text).replace(GONE, "")
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
