"""Invented texts of four kinds with different words and sentences, so that some are harder to learn than others."""

import random

FORMS = {
    "web": [
        "You can {do} the best {thing} in {place} with our {quality} {thing}.",
        "To {do} a {thing} that you love, have a look at the {quality} {thing} of {place}.",
        "Click here and {do} {number} {thing}s of the {quality} kind, that is what we are for.",
        "I was in {place} with a {thing}, and it had to be {quality}.",
    ],
    "wikipedia": [
        "{Name} is a {quality} {thing} in the province of {place}, with a population of {number}.",
        "The {thing} of {Name} was founded in {number} and belongs to the {quality} {thing}s of {place}.",
        "In {number}, the {thing} was moved to {place} by {Name}, that is known to have a {quality} {thing}.",
        "It lies to the north of the {thing}, {number} kilometres from {place}.",
    ],
    "books": [
        "“{Name},” said the {thing}, “I have never been so {quality} of the {thing} in {place}.”",
        "The {thing} was {quality} and {quality}, and the {thing} of {Name} had to be the {quality} one of them.",
        "With a {quality} {thing} she went to {place}, that the {thing} might be hers; and it was {quality}.",
        "He thought of the {quality} {thing}, and of {place}, and would not {do} it.",
    ],
    "papers": [
        "We {do} the {quality} {thing} of a {thing} with {number} parameters and show that it is {quality}.",
        "Let {Name} be the {thing}; to {do} it, we have the {quality} bound of {number}.",
        "The {thing} of {place} et al. is {quality}, and we {do} the {thing} that they have left out.",
        "That the {thing} is {quality} follows with the {thing} of {Name} ({number}).",
    ],
}
WORDS = {
    "web": {
        "do": "buy order find read rent watch compare share save book",
        "thing": "shoe phone recipe hotel ticket sofa camera coupon garden blog video lamp bike jacket",
        "quality": "cheap new free amazing local fresh easy smart cosy official",
        "place": "Springfield town Riverside the_store Oakville our_shop",
        "Name": "Bob Anna Sam",
    },
    "wikipedia": {
        "do": "govern",
        "thing": "village river castle municipality railway parish bridge museum lake monastery district harbour",
        "quality": "medieval rural historic northern administrative Baroque protected former volcanic coastal",
        "place": "Arvenia Lower_Tolmark Quillan Besteria Ostrava Montrel",
        "Name": "Velburg Karsto Dunmere Pellworth Ilmenau Tarquin Rostova Hallin",
    },
    "books": {
        "do": "forgive forget abandon confess believe",
        "thing": "heart carriage widow letter captain candle moor secret governess fortune storm silence inn sorrow",
        "quality": "melancholy weary gentle proud dreadful tender solemn ashamed pale afraid",
        "place": "London the_garden Thornfield the_drawing-room the_sea Bath",
        "Name": "Margaret Edmund Philippa Mr._Harrow Catherine the_Colonel",
    },
    "papers": {
        "do": "minimise estimate approximate derive bound optimise evaluate",
        "thing": "gradient kernel estimator lemma manifold posterior operator variance loss attention spectrum graph",
        "quality": "convex stochastic asymptotic sparse Bayesian unbiased invariant logarithmic empirical compact",
        "place": "Euler Kowalevski Noether Turing Hypatia",
        "Name": "φ ψ T the_Hessian",
    },
}


def documents(kind, count, seed=0):
    """`count` texts of "web", "wikipedia", "books" or "papers", of about 1,000 characters; a function of the seed."""
    dice = random.Random(f"{kind} {seed}")
    words = {field: text.split() for field, text in WORDS[kind].items()}

    def sentence():
        text = dice.choice(FORMS[kind])
        while "{" in text:
            field = text[text.index("{") + 1 : text.index("}")]
            word = str(dice.randrange(2, 2000)) if field == "number" else dice.choice(words[field]).replace("_", " ")
            text = text.replace(f"{{{field}}}", word, 1)
        return text[0].upper() + text[1:]

    def paragraph():
        return " ".join(sentence() for _ in range(dice.randint(3, 6)))

    return ["\n\n".join(paragraph() for _ in range(dice.randint(2, 5))) for _ in range(count)]
