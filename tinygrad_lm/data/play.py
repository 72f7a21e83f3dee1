"""A funny little play without end, written by a grammar whose entropy is known exactly.

The built-in corpus, for where there is no network, and a yardstick: no model can predict these characters better than
the dice that chose them, so a loss close to `entropy_per_character()` is as good as a loss can be.

A speech is derived by replacing each {symbol} with one of its expansions, drawn by weight. No class shares a word with
another, so a text has exactly one derivation. Hence the entropy of the text is the entropy of the choices; and speeches
follow one another independently, but for the speakers, so per character it is

    h = H(speech) / E[length of a speech]

(entropy rate: Cover & Thomas, Elements of Information Theory, ch. 4; the ratio: the renewal-reward theorem).
"""




def words(text):
    """Each word with its weight 1 / (rank + 2): Zipf's law, flattened at the top as Mandelbrot (1953) proposed."""
    return {word: 1 / (rank + 2) for rank, word in enumerate(text.split(), 1)}


CAST = ["KING", "QUEEN", "FOOL", "COOK", "NURSE", "GHOST", "WITCH", "GOOSE"]

GRAMMAR = {
    "lines": {"{line}\n": 3, "{line}\n{line}\n": 4, "{line}\n{line}\n{line}\n": 1},
    "line": {
        "{Whose} {thing} {did} {whose} {thing}{tail}": 5,
        "O {thing}, {do} {whose} {thing}!": 3,
        "Shall I {do} {whose} {thing}?": 3,
        "Thou {adjective} {noun}!": 2,
        "{oath}! {Whose} {noun} is {adjective}.": 2,
    },
    "thing": {"{noun}": 3, "{adjective} {noun}": 2},
    "tail": {".": 3, " {when}.": 2},
    "noun": words("""pig hat goose pie wig ham owl egg moon cat hen bee toad nose cow duke fox eel sock bed aunt beard
                     ape tax pea cheese monk tub jam elf onion soul rat crown bat turnip kettle leek throne oyster"""),
    "adjective": words("old fat sad mad wet shy bald rude odd holy damp pale vain sour smug tiny royal humble"),
    "did": words("ate bit slew hid saw lost sold woke wooed sued stole fled drew won fought forgave"),
    "do": words("eat bite kiss hide sue boil wed trust sell fight steal bury crown_ tickle"),
    "whose": words("my thy the our his her no yon"),
    "Whose": words("My Thy The Our His Her No Yon"),
    "oath": words("Fie Alas Zounds Hush Egad"),
    "when": {"at dawn": 2, "in bed_": 2},
}
