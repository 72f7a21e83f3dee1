"""One answer of a policy as text for the terminal."""

from tinygrad_lm.tables import aligned

WIDTH = 40  # of an answer's text in the table of the group

GROUP = {  # a column's head, and how to write it of an Answer
    "reward": lambda answer: f"{answer.reward:.3f}",
    "KL": lambda answer: f"{answer.kl:+.3f}",
    "baseline": lambda answer: f"{answer.baseline:.3f}",
    "advantage": lambda answer: "by token" if answer.advantage is None else f"{answer.advantage:+.3f}",
    "tokens": lambda answer: str(answer.length),
    "ended": lambda answer: "yes" if answer.ended else "no",
}
TOKENS = {  # of a Token
    "share": lambda token: f"{token.share:.1%}",
    "log π": lambda token: f"{token.logp:.4f}",
    "log π_ref": lambda token: f"{token.reference:.4f}",
    "k1": lambda token: f"{token.k1:+.4f}",
    "ratio": lambda token: f"{token.ratio:.6f}",
    "value": lambda token: f"{token.value:+.4f}",
    "advantage": lambda token: f"{token.advantage:+.4f}",
    "‖gradient‖": lambda token: f"{token.norm:.4g}",
}


def token_columns(response):
    """The columns of the tokens' table: without the value where there is no value head."""
    return {name: column for name, column in TOKENS.items() if name != "value" or response.tokens[0].value is not None}


def response_text(response, title):
    """A Response as text: the prompt, the group, and the chosen answer token by token."""
    messages = "\n".join(f"{message['role']}: {message['content']}" for message in response.messages)
    rows = [["answer", *GROUP]]
    for number, answer in enumerate(response.answers):
        mark = "*" if number == response.chosen else " "
        rows.append([f"{number}{mark} {short(answer.text)}", *(column(answer) for column in GROUP.values())])
    columns = token_columns(response)
    tokens = [["token", *columns]]
    tokens += [[token.text, *(column(token) for column in columns.values())] for token in response.tokens]
    return "\n\n".join([title, messages, "\n".join(aligned(rows)), "\n".join(aligned(tokens)), together(response)])


def short(text):
    """A text in one line, quoted, its end left out where it is long."""
    return repr(text if len(text) <= WIDTH else text[: WIDTH - 1] + "…")


def together(response):
    """What the tokens' gradients are together."""
    norms = sum(token.norm for token in response.tokens)
    if not norms:
        return "No token has a gradient: every advantage is 0, since no answer of the group is better than another."
    return (
        f"The tokens' gradients add up to one of norm {response.norm:.4g}, {response.norm / norms:.0%} of the sum of "
        "their norms; 100% if all had one direction."
    )
