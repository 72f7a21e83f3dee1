"""Books as Project Gutenberg publishes them, with the licence's header and footer of different years."""

from pathlib import Path

from raw_files import write_text

# Headers and footers of different years.
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
    """Write a file per book, with headers and footers of different years in turn."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(documents):
        header, footer = list(HEADERS)[i % len(HEADERS)], list(FOOTERS)[i % len(FOOTERS)]
        write_text(Path(folder, f"pg{i}.txt"), book(text, header, footer))
