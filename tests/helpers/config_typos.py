"""Wrong names of config keys, drawn from a seeded generator, with the key that was meant."""

import random
import string


def typos(keys, kind, seed, per_key=3):
    """Yield (key, wrong name) pairs; ``kind`` is one of :data:`KINDS`."""
    draw, names = random.Random(seed), sorted(keys)
    parents = sorted({key.rpartition(".")[0] for key in names} - {""})
    for key in names:
        for _ in range(per_key):
            wrong = KINDS[kind](key, draw, parents)
            if wrong and wrong not in keys:
                yield key, wrong


def _letter(key, draw, parents):
    place = draw.randrange(len(key))
    letter = draw.choice(string.ascii_uppercase + "_")
    return draw.choice(
        [
            key[:place] + letter + key[place + 1 :],
            key[:place] + letter + key[place:],
            key[:place] + key[place + 1 :],
        ]
    )


def _case(key, draw, parents):
    words = key.split(".")
    place = draw.randrange(len(words))
    words[place] = draw.choice([words[place].lower(), words[place].title()])
    return draw.choice([key.lower(), key.title(), ".".join(words)])


def _swap(key, draw, parents):
    place = draw.randrange(len(key) - 1)
    return key[:place] + key[place + 1] + key[place] + key[place + 2 :]


def _other_section(key, draw, parents):
    """Return the key's last word in another section."""
    return f"{draw.choice(parents)}.{key.rpartition('.')[2]}" if "." in key else None


def _missing_section(key, draw, parents):
    words = key.split(".")
    if len(words) > 1:
        words.pop(draw.randrange(len(words) - 1))
        return ".".join(words)
    return None


def _added_section(key, draw, parents):
    words = key.split(".")
    words.insert(draw.randrange(len(words)), draw.choice(parents).split(".")[-1])
    return ".".join(words)


def _section_letter(key, draw, parents):
    parent, _, last = key.rpartition(".")
    return f"{_letter(parent, draw, parents)}.{last}" if parent else None


KINDS = {
    "letter": _letter,
    "case": _case,
    "transposition": _swap,
    "letter of a section": _section_letter,
    "other section": _other_section,
    "missing section": _missing_section,
    "added section": _added_section,
}
