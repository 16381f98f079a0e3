"""Examination questions of about fifty tokens, made from templates of our own: prompts of a kind
that the default router has outcomes of, each of them new.

Random words are unlike anything it knows, so a router that encodes only when unsure would encode
them all. Names, numbers, terms and their order vary: some millions of questions of each form.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

_Question = Callable[[random.Random], str]

_NAMES, _GOODS = (
    words.split()
    for words in (
        "Maria James Aisha Tom Yuki Elena Omar Grace Pavel Lucia Henry Nadia Victor Ingrid Rosa",
        "pencils apples stickers marbles books cookies tickets candles eggs flowers",
    )
)

# Fields, each with terms and what they mean.
_TERMS: dict[str, dict[str, str]] = {
    "biology": {
        "mitosis": "division of a cell into two identical cells",
        "osmosis": "movement of water across a membrane",
        "photosynthesis": "making sugar from light and carbon dioxide",
        "transcription": "copying a gene into RNA",
        "translation": "assembling a protein from RNA",
        "meiosis": "formation of cells with half the chromosomes",
        "respiration": "release of energy from sugar in a cell",
        "mutation": "a lasting change in the sequence of DNA",
        "fermentation": "breaking down sugar without oxygen",
        "homeostasis": "keeping the conditions inside a body constant",
    },
    "chemistry": {
        "a catalyst": "a substance that speeds up a reaction without being used up",
        "an isotope": "an atom of the same element with another number of neutrons",
        "an acid": "a substance that gives away protons",
        "a base": "a substance that accepts protons",
        "an oxidation": "a loss of electrons",
        "a reduction": "a gain of electrons",
        "a polymer": "a long molecule made of repeated units",
        "an ion": "an atom that carries a net charge",
        "a solvent": "a liquid in which something is dissolved",
        "an alloy": "a metal made by mixing several elements",
    },
    "economics": {
        "inflation": "a general rise of prices over time",
        "elasticity": "how strongly demand responds to a change of price",
        "a monopoly": "a market with a single seller",
        "an externality": "a cost borne by somebody outside a transaction",
        "a tariff": "a tax on imported goods",
        "opportunity cost": "the value of the best alternative given up",
        "a recession": "a sustained fall of output and employment",
        "a subsidy": "a payment by the government that lowers a price",
        "a public good": "a good that nobody can be kept from using",
        "comparative advantage": "producing something at a lower relative cost than others",
    },
    "law": {
        "negligence": "a failure to take reasonable care that causes harm",
        "consideration": "what each side of a contract gives the other",
        "an easement": "a right to use the land of another person",
        "perjury": "lying under oath in court",
        "arbitration": "settling a dispute outside court by a neutral person",
        "double jeopardy": "being tried twice for the same offence",
        "larceny": "taking property of another with the intent to keep it",
        "an injunction": "a court order to stop doing something",
        "defamation": "a false statement that damages a reputation",
        "bail": "money deposited to be released before trial",
    },
    "psychology": {
        "conditioning": "learning to link a stimulus with a response",
        "a placebo": "an effect caused by expecting a treatment to work",
        "attachment": "a strong bond between an infant and a caregiver",
        "confirmation bias": "noticing mainly what supports a belief already held",
        "extinction": "the fading of a learned response without reward",
        "working memory": "holding a few items in mind for a short time",
        "cognitive dissonance": "discomfort from holding two beliefs that conflict",
        "projection": "ascribing one's own feelings to other people",
        "habituation": "responding less to a stimulus that is repeated",
        "a schema": "a mental frame that organises what one knows",
    },
    "computer science": {
        "a stack": "a collection in which the last item added is removed first",
        "a queue": "a collection in which the first item added is removed first",
        "recursion": "a function that calls itself",
        "a hash table": "finding a value by a number computed from its key",
        "a compiler": "a program that translates source code to machine code",
        "a deadlock": "two processes waiting for each other without end",
        "a binary search": "halving a sorted list until an item is found",
        "a cache": "a small fast memory for what was used lately",
        "encapsulation": "hiding the state of an object behind its methods",
        "a pointer": "a variable that holds an address in memory",
    },
    "astronomy": {
        "a supernova": "the explosion of a massive star",
        "a light year": "the distance that light travels in a year",
        "a black hole": "a region from which light cannot escape",
        "an eclipse": "one body passing into the shadow of another",
        "a comet": "a body of ice and dust with a tail near the Sun",
        "a galaxy": "billions of stars held together by gravity",
        "redshift": "a stretching of light from objects that move away",
        "a pulsar": "a rotating star that sends regular radio pulses",
        "an asteroid": "a rocky body that mostly orbits between Mars and Jupiter",
        "an orbit": "the path of one body around another",
    },
    "philosophy": {
        "utilitarianism": "judging an act by the happiness it brings about",
        "empiricism": "the view that knowledge comes from experience",
        "rationalism": "the view that knowledge comes from reason",
        "dualism": "the view that mind and body are two substances",
        "determinism": "the view that every event follows from earlier causes",
        "a syllogism": "a conclusion drawn from two premises",
        "stoicism": "a school that seeks calm by mastering the passions",
        "nihilism": "the view that life has no meaning",
        "skepticism": "doubt that certain knowledge is possible",
        "the social contract": "an agreement by which people form a state",
    },
}

_ASKING = (
    "Which of the following is best described as {meaning}?",
    "In {field}, which of these terms means {meaning}?",
    "What is the name for {meaning}?",
    "A textbook of {field} speaks of {meaning}. Which term is meant?",
    "Which term from {field} refers to {meaning}?",
    "The phrase '{meaning}' defines which of the following?",
)

_ENDINGS = (
    "Think it through, then give the letter of the right answer.",
    "Choose one and say in a sentence why it is the right one.",
    "Give the letter of the right answer, and nothing else.",
)


def exam_prompts(seed: int) -> Iterator[str]:
    """Endless questions of about fifty tokens, no two of them alike."""
    rng = random.Random(seed)
    asked = set()
    while True:
        question = rng.choice(_FORMS)(rng)
        if question not in asked:
            asked.add(question)
            yield question


def _term(rng: random.Random) -> str:
    field = rng.choice(list(_TERMS))
    terms = _TERMS[field]
    offered = rng.sample(list(terms), 4)
    meaning = terms[rng.choice(offered)]
    asked = rng.choice(_ASKING).format(field=field, meaning=meaning)
    return f"{asked}\n{_options(offered)}\n{rng.choice(_ENDINGS)}"


def _statements(rng: random.Random) -> str:
    field = rng.choice(list(_TERMS))
    terms = _TERMS[field]
    first, second = rng.sample(list(terms), 2)
    said = (terms[rng.choice((first, second))], rng.choice(list(terms.values())))
    answers = ["True, True", "False, False", "True, False", "False, True"]
    rng.shuffle(answers)
    return (
        f"Statement 1 | In {field}, {first} is {said[0]}. Statement 2 | {second} is {said[1]}.\n"
        f"{_options(answers)}"
    )


def _shopping(rng: random.Random) -> str:
    name, goods, other = rng.choice(_NAMES), *rng.sample(_GOODS, 2)
    count, price, more = rng.randint(3, 60), rng.randint(2, 19), rng.randint(2, 40)
    return (
        f"{name} buys {count} {goods} for ${price} each and {more} {other} for half as much each."
        f" {name} pays with {rng.randint(2, 9)} hundred-dollar bills and gives a tenth of the"
        " change to a friend. How many dollars are left?"
    )


def _journey(rng: random.Random) -> str:
    name, speed, hours = rng.choice(_NAMES), rng.randint(20, 90), rng.randint(2, 9)
    return (
        f"{name} drives at {speed} miles per hour for {hours} hours, rests for"
        f" {rng.randint(10, 55)} minutes, and then drives {rng.randint(30, 300)} miles at"
        f" {rng.randint(20, 90)} miles per hour. What is the average speed over the whole trip?"
    )


def _force(rng: random.Random) -> str:
    mass, start, gain = rng.randint(200, 2_500), rng.randint(2, 20), rng.randint(3, 30)
    seconds = rng.randint(2, 15)
    force = mass * gain / seconds
    shown = [f"{force * factor:.0f} N" for factor in rng.sample((0.25, 0.5, 1, 2, 4, 9.8), 4)]
    return (
        f"A car of mass {mass} kg speeds up from {start} m/s to {start + gain} m/s in {seconds}"
        f" seconds. What is the net force on it?\n{_options(shown)}\n{rng.choice(_ENDINGS)}"
    )


def _equation(rng: random.Random) -> str:
    a, b, c = rng.sample(range(2, 60), 3)
    root, step = rng.randint(-12, 12), rng.randint(1, 5)
    shown = [str(root + step * at) for at in rng.sample(range(-3, 4), 4)]
    return (
        f"If {a}x + {b} = {c}x + {(a - c) * root + b} and y = x^2 - {rng.randint(2, 30)}, what is"
        f" the value of x?\n{_options(shown)}\n{rng.choice(_ENDINGS)}"
    )


def _options(answers: list[str]) -> str:
    return "\n".join(f"{letter}. {answer}" for letter, answer in zip("ABCD", answers, strict=True))


_FORMS: tuple[_Question, ...] = (_term, _term, _statements, _shopping, _journey, _force, _equation)
