"""One answer of a policy as a page: one HTML file that needs no network and no script."""

from html import escape

from tinygrad_lm.learn.ledger.page import filled, read
from tinygrad_lm.learn.response.response_text import GROUP, together, token_columns

GROUP_WORDS = {
    "reward": "what the judge of the run gave the whole answer",
    "KL": "Σ log π / π_ref over its tokens, in nats; β times it is subtracted from the reward",
    "baseline": "what the reward is compared with: the mean of the others' rewards (leave-one-out), of the group's, or "
    "what the value head expected before the first token",
    "advantage": "how much better than that it was; the gradient is that of advantage · log π",
}
TOKEN_WORDS = {
    "share": "of the answer's gradient: ‖gradient‖ / the sum of these norms over its tokens",
    "log π": "log-probability by the policy, in nats",
    "log π_ref": "by the reference, the model that the run began with",
    "k1": "log π − log π_ref: its mean over answers of the policy is KL(π ‖ π_ref)",
    "ratio": "π / π_old: the probability in training over that when it was drawn; 1 if both compute the same",
    "value": "the reward that the value head expects before this token",
    "advantage": "what ∇ log π of the token is multiplied by, the weight of the answer's length included",
    "‖gradient‖": "of the token's term alone, over all weights that are trained",
}
LEFT = ' class="text-head"'


def response_page(response, title):
    """The page of a Response, as text."""
    parts = {
        "title": escape(title),
        "style": read("style.css"),
        "messages": "\n".join(map(turn, response.messages)),
        "group": group_table(response),
        "group_words": words(GROUP_WORDS, GROUP_WORDS),
        "chosen": str(response.chosen),
        "tokens": "".join(map(coloured, response.tokens)),
        "table": token_table(response),
        "together": escape(together(response)),
        "token_words": words(TOKEN_WORDS, token_columns(response)),
    }
    return filled(read("response.html"), parts)


def turn(message):
    return f'<p class="turn"><b>{escape(message["role"])}</b> {escape(message["content"])}</p>'


def words(meanings, shown):
    """The columns that are shown, explained."""
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(meanings[name])}</dd>" for name in shown)


def coloured(token):
    """A token whose background says its share, and its line which way its probability goes."""
    way = "up" if token.advantage > 0 else "down" if token.advantage < 0 else ""
    about = f"log π {token.logp:.4f}, advantage {token.advantage:+.4f}, share {token.share:.1%}"
    return f'<span class="{way}" style="--share: {token.share:.4f}" title="{escape(about)}">{escape(token.text)}</span>'


def group_table(response):
    rows = []
    for number, answer in enumerate(response.answers):
        cells = "".join(f"<td>{escape(column(answer))}</td>" for column in GROUP.values())
        here = ' aria-current="true"' * (number == response.chosen)
        rows.append(f'<tr{here}><th scope="row">{number}</th><td class="text">{escape(answer.text)}</td>{cells}</tr>')
    return table(["answer", "text", *GROUP], rows)


def token_table(response):
    rows, columns = [], token_columns(response)
    for token in response.tokens:
        cells = "".join(f"<td>{escape(column(token))}</td>" for name, column in columns.items() if name != "share")
        bar = f'<span class="bar-cell" style="--share: {token.share:.4f}"><i></i></span>'
        share = f"<td>{escape(columns['share'](token))}{bar}</td>"
        rows.append(f'<tr><th scope="row">{escape(token.text)}</th>{share}{cells}</tr>')
    return table(["token", *columns], rows)


def table(head, rows):
    """An HTML table; rows: its <tr> elements."""
    cells = "".join(f'<th scope="col"{LEFT * (name == "text")}>{escape(name)}</th>' for name in head)
    return f'<table class="facts"><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
